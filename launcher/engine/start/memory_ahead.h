#ifndef PYLAUNCH_LAUNCHER_ENGINE_START_MEMORY_AHEAD_H_
#define PYLAUNCH_LAUNCHER_ENGINE_START_MEMORY_AHEAD_H_

namespace pylaunch::engine {

// Asks the kernel at once for the memory that every start of CPython writes: it comes otherwise
// page by page, each by a fault of its own, which is a twentieth of a start
// (docs/performance.md#what-a-start-waits-for). Nothing else changes, and where the kernel does not
// know how (MADV_POPULATE_WRITE, Linux 5.14), nothing at all. Call once, before Python is
// initialised.
void TakeMemoryAhead();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_START_MEMORY_AHEAD_H_
