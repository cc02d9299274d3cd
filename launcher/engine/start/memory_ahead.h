#ifndef PYLAUNCH_LAUNCHER_ENGINE_START_MEMORY_AHEAD_H_
#define PYLAUNCH_LAUNCHER_ENGINE_START_MEMORY_AHEAD_H_

#include <cstddef>

namespace pylaunch::engine {

// Asks the kernel at once for memory that will be written: it comes otherwise page by page, each by
// a fault of its own. Where the kernel does not know how (MADV_POPULATE_WRITE, Linux 5.14), nothing
// happens. errno stays. Any thread.
void Populate(void* start, size_t size);

// CPython's own data, where nearly every page is written when Python starts
// (docs/performance.md#what-a-start-waits-for). Call before Python is initialised.
void TakeDataAhead();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_START_MEMORY_AHEAD_H_
