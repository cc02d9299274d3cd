#include "launcher/engine/start/arena_memory.h"

#include <Python.h>

#include <atomic>
#include <cstddef>
#include <iterator>

#include "launcher/engine/start/memory_ahead.h"

namespace pylaunch::engine {
namespace {

constexpr size_t kArena = size_t{1} << 20;   // ARENA_SIZE, Include/internal/pycore_obmalloc.h.
constexpr size_t kChunk = size_t{16} << 10;  // DATA_STACK_CHUNK_SIZE, pycore_frame.h.

// How much of the first arenas is written when a program starts, in the order they are asked for.
#if PY_VERSION_HEX < 0x030D0000
constexpr size_t kFirstArenas[] = {kArena};
#else
constexpr size_t kFirstArenas[] = {kArena, kArena * 3 / 8};
#endif

// CPython calls these with nothing of ours. It holds the GIL for arenas, not always for chunks: a
// thread's last one goes without it.
constinit struct {
  PyObjectArenaAllocator before = {};
  size_t taken = 0;  // Of kFirstArenas.
  std::atomic<void*> chunk = nullptr;
} g;

void* Allocate(void*, size_t size) {
  if (size == kChunk) {
    if (void* chunk = g.chunk.exchange(nullptr, std::memory_order_acquire)) return chunk;
  }
  void* memory = g.before.alloc(g.before.ctx, size);
  if (size == kArena && g.taken < std::size(kFirstArenas)) {
    const size_t written = kFirstArenas[g.taken++];
    if (memory != nullptr) Populate(memory, written);
  }
  return memory;
}

void Free(void*, void* memory, size_t size) {
  if (size == kChunk) memory = g.chunk.exchange(memory, std::memory_order_acq_rel);
  if (memory != nullptr) g.before.free(g.before.ctx, memory, size);
}

}  // namespace

void ServeArenas() {
  PyObject_GetArenaAllocator(&g.before);
  PyObjectArenaAllocator serving = {nullptr, Allocate, Free};
  PyObject_SetArenaAllocator(&serving);
}

}  // namespace pylaunch::engine
