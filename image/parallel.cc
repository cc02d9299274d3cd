#include "image/parallel.h"

#include <linux/close_range.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace pylaunch::image {
namespace {

using Clock = std::chrono::steady_clock;

// What took so long has waited for something.
constexpr std::chrono::milliseconds kLong{2};
constexpr size_t kMostThreads = 64;

// Where threads share their table of descriptors, each look-up by one of these counts references
// that all processors write to: measured, twice as long.
void TakeOwnDescriptors() { close_range(~0u, ~0u, CLOSE_RANGE_UNSHARE); }

// Kernels that pack tasks (on few processors, for power or for other guests) leave a new thread on
// the one it was made on until the next tick, up to 4 ms: longer than all its work takes.
void MoveAway(std::thread* thread) {
  cpu_set_t processors;
  if (sched_getaffinity(0, sizeof processors, &processors) != 0) return;
  CPU_CLR(static_cast<size_t>(std::max(sched_getcpu(), 0)), &processors);
  if (CPU_COUNT(&processors) == 0) return;
  pthread_setaffinity_np(thread->native_handle(), sizeof processors, &processors);
}

class Crew {
 public:
  Crew(size_t count, const std::function<bool(size_t)>& work) : count_(count), work_(work) {}

  void Run(size_t threads) {
    for (size_t i = 1; i < threads && AddThread(); ++i) MoveAway(&threads_.back());
    // Of a thread that has ended the C library has no number, and would move its caller
    // (pthread_setaffinity_np in glibc's nptl): this process, and with it the program.
    moved_ = true;
    moved_.notify_all();
    Work();
    for (std::thread last; (last = TakeThread()).joinable();) last.join();
  }

 private:
  void Work() {
    for (size_t i; (i = next_++) < count_;) {
      const Clock::time_point started = Clock::now();
      if (!work_(i)) next_ = count_;
      if (Clock::now() - started > kLong && next_ < count_) AddThread();
    }
  }

  bool AddThread() try {
    std::lock_guard<std::mutex> lock(mutex_);
    if (++made_ >= kMostThreads) return false;
    threads_.emplace_back([this] {
      TakeOwnDescriptors();
      moved_.wait(false);
      Work();
    });
    return true;
  } catch (const std::system_error&) {
    return false;
  }

  std::thread TakeThread() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (threads_.empty()) return {};
    std::thread last = std::move(threads_.back());
    threads_.pop_back();
    return last;
  }

  const size_t count_;
  const std::function<bool(size_t)>& work_;
  std::atomic<size_t> next_ = 0;
  std::atomic<bool> moved_ = false;
  std::mutex mutex_;
  size_t made_ = 0;
  std::vector<std::thread> threads_;
};

}  // namespace

void InParallel(size_t count, size_t threads, const std::function<bool(size_t)>& work) {
  Crew(count, work).Run(threads);
}

}  // namespace pylaunch::image
