#include "launcher/engine/free_memory.h"

#include <Python.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>

extern "C" int _PyObject_DebugMallocStats(FILE* out);

namespace pylaunch::engine {
namespace {

// What sys._debugmallocstats() prints of the allocator; empty if another one is in use.
std::string PoolReport() {
  char* text = nullptr;
  size_t size = 0;
  FILE* out = open_memstream(&text, &size);
  if (out == nullptr) return "";
  _PyObject_DebugMallocStats(out);
  fclose(out);
  std::string report(text, size);
  std::free(text);
  return report;
}

// The report's table has a line for each size of blocks: class, size, pools, blocks in use and
// available ones, which are those of pools that are in use.
void TakeFromPools() {
  std::istringstream lines(PoolReport());
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    size_t number, size, pools, used, available;
    std::string rest;
    if (!(fields >> number >> size >> pools >> used >> available) || fields >> rest) continue;
    for (; available > 0; --available) {
      void* block = PyObject_Malloc(size);
      if (block == nullptr) return;
      std::memset(block, 0, size);
    }
  }
}

// From large to small, so that what is left of a large one serves for smaller ones. Addresses tell
// what is free from what is new: the top, which new memory comes from, lies at the break. Not where
// the heap goes on elsewhere, the break being hemmed in; hence the count. Sizes stay below the
// least threshold of mmap, which a freed block of more would raise.
void TakeFromHeap() {
  constexpr size_t kLargest = 64 << 10, kSmallest = 24, kStep = 16;
  constexpr size_t kLargestCached = 1032;  // Each size up to this has a list of its own (tcache)...
  constexpr size_t kCached = 256 << 10;    // ...seven blocks long; these count as in use.
  const struct mallinfo2 info = mallinfo2();
  const auto top = reinterpret_cast<uintptr_t>(sbrk(0)) - info.keepcost;
  size_t left = info.fordblks - info.keepcost + kCached;
  for (size_t size = kLargest; size >= kSmallest;
       size = size > kLargestCached ? size / kStep * (kStep - 1) : size - kStep) {
    while (left > size) {
      void* block = std::malloc(size);
      if (block == nullptr) return;
      if (reinterpret_cast<uintptr_t>(block) >= top) {
        std::free(block);
        break;
      }
      std::memset(block, 0, malloc_usable_size(block));
      left -= std::min(left, malloc_usable_size(block));
    }
  }
}

}  // namespace

void TakeFreeMemory() {
  TakeFromPools();
  TakeFromHeap();
}

}  // namespace pylaunch::engine
