#include "launcher/engine/start/arena_memory.h"

#include <Python.h>

#include <array>
#include <atomic>
#include <cstddef>

namespace pylaunch::engine {
namespace {

// DATA_STACK_CHUNK_SIZE (Python/pystate.c). Frames that need more get a larger piece: not kept.
constexpr size_t kPiece = size_t{16} << 10;

// Called by CPython with nothing of ours, by several threads at once: a thread's pieces are freed
// without the GIL.
constinit struct {
  PyObjectArenaAllocator below = {};
  std::array<std::atomic<void*>, 4> kept = {};
} g;

void* Allocate(void*, size_t size) {
  if (size == kPiece) {
    for (std::atomic<void*>& slot : g.kept) {
      if (slot.load(std::memory_order_relaxed) == nullptr) continue;
      if (void* piece = slot.exchange(nullptr, std::memory_order_acquire)) return piece;
    }
  }
  return g.below.alloc(g.below.ctx, size);
}

void Free(void*, void* memory, size_t size) {
  if (size == kPiece) {
    for (std::atomic<void*>& slot : g.kept) {
      void* none = nullptr;
      if (slot.compare_exchange_strong(none, memory, std::memory_order_release,
                                       std::memory_order_relaxed)) {
        return;
      }
    }
  }
  g.below.free(g.below.ctx, memory, size);
}

}  // namespace

void KeepFramePieces() {
  PyObject_GetArenaAllocator(&g.below);
  PyObjectArenaAllocator ours = {nullptr, Allocate, Free};
  PyObject_SetArenaAllocator(&ours);
}

}  // namespace pylaunch::engine
