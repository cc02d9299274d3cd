#ifndef PYLAUNCH_LAUNCHER_ENGINE_START_ARENA_MEMORY_H_
#define PYLAUNCH_LAUNCHER_ENGINE_START_ARENA_MEMORY_H_

// CPython takes what its frames and small objects lie in from the kernel piece by piece (PEP 445's
// arena allocator). From 3.11 on frames lie in pieces of 16 KiB (Python/pystate.c, push_chunk), and
// the last one goes back to the kernel when its first frame returns. So a loop at the end of a
// piece that calls a function asks the kernel for memory, and gives it back, at every call: a tenth
// of the time that importing transformers takes.

namespace pylaunch::engine {

// From now on a few pieces are kept for the next call instead. Called before the interpreter takes
// its first memory. Whatever allocator was there does the rest.
void KeepFramePieces();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_START_ARENA_MEMORY_H_
