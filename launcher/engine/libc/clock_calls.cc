#include "launcher/engine/libc/clock_calls.h"

#include <time.h>

#include <atomic>
#include <cerrno>

#include "launcher/engine/libc/libc_calls.h"

namespace pylaunch::engine {
namespace {

// The function below is called with nothing of ours.
constinit struct {
  std::atomic<ClockListener> listener = nullptr;
  LibcFunction<int (*)(clockid_t, timespec*)> libc_clock_gettime{"clock_gettime"};
} g;

// It may be called in a signal handler, and by a child of vfork(2).
__attribute__((constructor)) void FindClockCalls() { g.libc_clock_gettime.Find(); }

bool BeginsWithBoot(clockid_t clock) {
  return clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_RAW ||
         clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_BOOTTIME ||
         clock == CLOCK_BOOTTIME_ALARM;
}

}  // namespace

void ListenToClocks(ClockListener listener) { g.listener = listener; }

}  // namespace pylaunch::engine

extern "C" __attribute__((visibility("default"))) int clock_gettime(clockid_t clock,
                                                                    timespec* time) noexcept {
  namespace engine = pylaunch::engine;
  const auto libc = engine::g.libc_clock_gettime.Get();
  const engine::ClockListener listener = engine::g.listener.load(std::memory_order_relaxed);
  if (listener == nullptr) [[likely]]
    return libc(clock, time);
  const int result = libc(clock, time);
  if (result != 0 || !engine::BeginsWithBoot(clock)) return result;
  if (engine::IsOurs(__builtin_return_address(0))) return result;
  const int error = errno;
  listener(time->tv_sec * int64_t{1'000'000'000} + time->tv_nsec);
  errno = error;
  return result;
}
