#include "launcher/engine/start/frame_memory.h"

#include <Python.h>

#include <atomic>

namespace pylaunch::engine {
namespace {

// DATA_STACK_CHUNK_SIZE in Include/internal/pycore_frame.h. No arena of the small-object allocator,
// which comes from the same functions, is that small.
constexpr size_t kChunk = 16 << 10;

struct {
  PyObjectArenaAllocator before;
  // A thread's last chunk may go without the GIL.
  std::atomic<void*> kept = nullptr;
} g;

void* Allocate(void*, size_t size) {
  void* chunk = size == kChunk ? g.kept.exchange(nullptr, std::memory_order_acquire) : nullptr;
  return chunk != nullptr ? chunk : g.before.alloc(g.before.ctx, size);
}

void Free(void*, void* address, size_t size) {
  if (size == kChunk) address = g.kept.exchange(address, std::memory_order_acq_rel);
  if (address != nullptr) g.before.free(g.before.ctx, address, size);
}

}  // namespace

void KeepFrameMemory() {
  PyObject_GetArenaAllocator(&g.before);
  PyObjectArenaAllocator keeping = {nullptr, Allocate, Free};
  PyObject_SetArenaAllocator(&keeping);
}

}  // namespace pylaunch::engine
