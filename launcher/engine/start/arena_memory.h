#ifndef PYLAUNCH_LAUNCHER_ENGINE_START_ARENA_MEMORY_H_
#define PYLAUNCH_LAUNCHER_ENGINE_START_ARENA_MEMORY_H_

namespace pylaunch::engine {

// CPython's objects and frames lie in memory of its arena allocator (PEP 445), which asks the
// kernel. From here on that is done otherwise in two places; nothing else changes.
//
// The first arenas, which every start writes, come whole: page by page, each by a fault of its own,
// they are a twentieth of a start (docs/performance.md#what-a-start-waits-for).
//
// Frames lie in chunks of 16 KiB. CPython 3.11 to 3.14 map a chunk when a call needs one more, and
// unmap it when that call returns (Python/pystate.c, push_chunk, _PyThreadState_PopFrame). A loop
// that calls from just below the end of a chunk does so each time: 60,000 times while transformers'
// Trainer is imported, a tenth of what that takes. One chunk is kept for the next call, as CPython
// 3.15 does itself (gh-142183).
//
// Call once, before Python is initialised.
void ServeArenas();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_START_ARENA_MEMORY_H_
