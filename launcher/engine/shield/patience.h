#ifndef PYLAUNCH_LAUNCHER_ENGINE_SHIELD_PATIENCE_H_
#define PYLAUNCH_LAUNCHER_ENGINE_SHIELD_PATIENCE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "launcher/engine/shield/thread_activity.h"

namespace pylaunch::engine {

constexpr int64_t kMillisecond = 1'000'000;
constexpr int64_t kForever = INT64_MAX;

// When a waiter loses patience. The first two in nanoseconds.
struct Terms {
  int64_t blocked;
  int64_t no_progress;
  // Blocked is only what waits for something that this process itself may have to do.
  bool dependent;
};

// One waiter's judgement of one turn: whether the threads that it is for still do something. Made
// with the GIL, used without it.
class Patience {
 public:
  enum class Verdict { kWait, kBlocked, kNoProgress, kGone };

  // `progress`: counts what the turn imports. `threads`: those that work for it, its own first.
  Patience(std::shared_ptr<const std::atomic<uint32_t>> progress,
           const std::vector<ThreadId>& threads, const Terms& terms);

  Verdict Look();

  // With the GIL, after kBlocked: whether `gil_wait`, the time it took to get it, means that the
  // holder may only have lacked the GIL. Then it gets some more chances.
  bool Doubts(int64_t gil_wait);

  int64_t blocked_since() const { return blocked_since_; }

 private:
  struct Watched {
    ThreadId thread;
    int64_t cpu = 0;  // At the last look.
  };

  Activity LookAt(Watched* watched);
  int64_t Cpu() const;
  void StartOver(int64_t now);
  void Restart(int64_t now);

  std::shared_ptr<const std::atomic<uint32_t>> progress_;
  Terms terms_;
  uint32_t seen_progress_;
  int64_t progress_at_;
  int64_t quiet_since_ = 0;
  int64_t blocked_since_;
  int64_t cpu_ = 0;
  int naps_ = 0;
  int doubts_ = 0;
  std::vector<Watched> watched_;
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_SHIELD_PATIENCE_H_
