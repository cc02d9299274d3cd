#include "image/parallel.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace pylaunch::image {
namespace {

TEST(InParallel, DoesEachOnce) {
  for (const size_t threads : {1, 2, 4}) {
    std::vector<std::atomic<int>> done(1000);
    InParallel(done.size(), threads, [&](size_t i) { return ++done[i] == 1; });
    for (const auto& times : done) EXPECT_EQ(times, 1);
  }
  InParallel(0, 4, [](size_t) { return false; });
}

TEST(InParallel, OneMayEndIt) {
  std::atomic<int> done = 0;
  InParallel(1'000'000, 2, [&](size_t i) {
    ++done;
    return i != 10;
  });
  EXPECT_LT(done, 1'000'000);
}

TEST(InParallel, QuickWorkHasTheThreadsItWasGiven) {
  std::mutex mutex;
  std::set<std::thread::id> threads;
  InParallel(100, 1, [&](size_t) {
    std::lock_guard<std::mutex> lock(mutex);
    return threads.insert(std::this_thread::get_id()), true;
  });
  EXPECT_EQ(threads.size(), 1u);
}

TEST(InParallel, MoreJoinInWhereItWaits) {
  std::mutex mutex;
  std::set<std::thread::id> threads;
  InParallel(200, 1, [&](size_t) {
    usleep(5000);
    std::lock_guard<std::mutex> lock(mutex);
    return threads.insert(std::this_thread::get_id()), true;
  });
  EXPECT_GT(threads.size(), 8u);
  EXPECT_LE(threads.size(), 64u);
}

TEST(InParallel, LeavesThisThreadWhereItMayRun) {
  cpu_set_t before, after;
  sched_getaffinity(0, sizeof before, &before);
  for (int i = 0; i < 200; ++i) InParallel(4, 4, [](size_t) { return true; });
  sched_getaffinity(0, sizeof after, &after);
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

}  // namespace
}  // namespace pylaunch::image
