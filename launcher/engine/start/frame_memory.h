#ifndef PYLAUNCH_LAUNCHER_ENGINE_START_FRAME_MEMORY_H_
#define PYLAUNCH_LAUNCHER_ENGINE_START_FRAME_MEMORY_H_

namespace pylaunch::engine {

// Python's frames lie in chunks of 16 KiB. CPython 3.11 to 3.14 map a chunk when a call needs one
// more, and unmap it when that call returns (Python/pystate.c, push_chunk,
// _PyThreadState_PopFrame). A loop that calls from just below the end of a chunk does so each time:
// 60,000 times while transformers' Trainer is imported, a tenth of what that takes. From here on
// one chunk is kept for the next call, as CPython 3.15 does itself (gh-142183). Any time before
// there are threads.
void KeepFrameMemory();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_START_FRAME_MEMORY_H_
