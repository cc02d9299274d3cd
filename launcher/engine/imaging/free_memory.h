#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMAGING_FREE_MEMORY_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMAGING_FREE_MEMORY_H_

namespace pylaunch::engine {

// Takes for good, and wipes, what CPython's small-object allocator (Objects/obmalloc.c) and glibc's
// malloc (malloc/malloc.c, the main arena) have free: some MiB of what imports have left. So a
// process restored from an image gets its first objects side by side, where one from the image's
// free blocks would be one copied page each; and what was once in freed memory is not in the image.
// Malloc's top is wiped and stays free. For the capturing process only. Does nothing where these
// allocators are not in use (PYTHONMALLOC, a preloaded malloc), or hooked (tracemalloc). REQUIRES:
// the GIL, and no other thread.
void TakeFreeMemory();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMAGING_FREE_MEMORY_H_
