#include "launcher/engine/record/clock_reads.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>

#include "launcher/engine/libc/clock_calls.h"

namespace pylaunch::engine {
namespace {

constexpr size_t kMost = size_t{1} << 17;

// The C library's functions tell us with nothing of ours.
constinit struct {
  std::atomic<int64_t*> values = nullptr;
  std::atomic<size_t> count = 0;
} g;

void OnClock(int64_t ns) {
  int64_t* values = g.values.load(std::memory_order_relaxed);
  const size_t at = g.count.fetch_add(1, std::memory_order_relaxed);
  if (values != nullptr && at < kMost) values[at] = ns;
}

}  // namespace

void StartClockReads() {
  void* memory = mmap(nullptr, kMost * sizeof(int64_t), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory != MAP_FAILED) g.values = static_cast<int64_t*>(memory);
  ListenToClocks(OnClock);
}

ClockReads StopClockReads() {
  ListenToClocks(nullptr);
  int64_t* values = g.values.load();
  const size_t count = g.count.load();
  if (values == nullptr) return {{}, count == 0};
  return {{values, std::min(count, kMost)}, count <= kMost};
}

void ForgetClockReads() {
  if (int64_t* values = g.values.exchange(nullptr)) munmap(values, kMost * sizeof(int64_t));
}

}  // namespace pylaunch::engine
