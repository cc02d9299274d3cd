#include "launcher/engine/imaging/free_memory.h"

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

// Pools that nobody uses; blocks of the smallest size leave nothing of them over.
void TakePools(size_t pools, size_t pool_size) {
  constexpr size_t kBlock = 16, kHeader = 48;  // ALIGNMENT, POOL_OVERHEAD (Objects/obmalloc.c).
  for (size_t left = pools * ((pool_size - kHeader) / kBlock); left > 0; --left) {
    void* block = PyObject_Malloc(kBlock);
    if (block == nullptr) return;
    std::memset(block, 0, kBlock);
  }
}

// The report's table has a line for each size of blocks: class, size, pools, blocks in use and
// available ones, which are those of pools that are in use; and further down there is
// "7 unused pools * 16384 bytes = 114,688".
void TakeFromPools() {
  std::istringstream lines(PoolReport());
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    size_t number, size, pools, used, available;
    std::string rest, star;
    if (!(fields >> number)) continue;
    if (fields >> size >> pools >> used >> available && !(fields >> rest)) {
      for (; available > 0; --available) {
        void* block = PyObject_Malloc(size);
        if (block == nullptr) return;
        std::memset(block, 0, size);
      }
      continue;
    }
    fields = std::istringstream(line);
    if (fields >> number >> rest >> star && rest == "unused" && fields >> star >> size) {
      TakePools(number, size);
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

// The top, which stays free. What nothing else has room for comes from there, however much it is
// (_int_malloc, use_top).
void WipeTop() {
  constexpr size_t kKept = 64;  // More than malloc keeps of a top and adds to a block.
  const size_t top = mallinfo2().keepcost;
  if (top <= kKept) return;
  void* block = std::malloc(top - kKept);
  if (block != nullptr) std::memset(block, 0, malloc_usable_size(block));
  std::free(block);
}

}  // namespace

void TakeFreeMemory() {
  TakeFromPools();
  TakeFromHeap();
  WipeTop();
}

}  // namespace pylaunch::engine
