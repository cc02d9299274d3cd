#include "launcher/engine/shield/patience.h"

#include <utility>

#include "launcher/engine/base/clock.h"

namespace pylaunch::engine {
namespace {

// So many times a holder may sleep for a time, one sleep after the other, before that counts as
// asking over and over for what another thread has to do.
constexpr int kNaps = 4;
// Blocked means: asleep at every look, and less than 1/50 of the time on a CPU.
constexpr int64_t kIdleShare = 50;

}  // namespace

Patience::Patience(std::shared_ptr<const std::atomic<uint32_t>> progress,
                   const std::vector<ThreadId>& threads, const Terms& terms)
    : progress_(std::move(progress)),
      terms_(terms),
      seen_progress_(*progress_),
      progress_at_(MonotonicNs()),
      blocked_since_(progress_at_) {
  for (const ThreadId& thread : threads) watched_.push_back({thread});
  StartOver(progress_at_);
}

Patience::Verdict Patience::Look() {
  if (terms_.blocked == kForever) {
    return IsGone(watched_[0].thread) ? Verdict::kGone : Verdict::kWait;
  }
  int64_t now = MonotonicNs();
  if (*progress_ != seen_progress_) {
    seen_progress_ = *progress_;
    progress_at_ = now;
    naps_ = 0;
    Restart(now);
  }
  for (Watched& watched : watched_) {
    Activity activity = LookAt(&watched);
    if (activity == Activity::kGone && &watched == &watched_[0]) return Verdict::kGone;
    if (activity == Activity::kWorking) Restart(now);
  }
  if (now - progress_at_ > terms_.no_progress) return Verdict::kNoProgress;
  if (now - quiet_since_ < terms_.blocked) return Verdict::kWait;
  if (Cpu() - cpu_ <= (now - quiet_since_) / kIdleShare) return Verdict::kBlocked;
  Restart(now);
  return Verdict::kWait;
}

bool Patience::Doubts(int64_t gil_wait) {
  if (gil_wait < 2 * kMillisecond || doubts_++ == 4) return false;
  terms_.blocked = 80 * kMillisecond;
  StartOver(MonotonicNs());
  return true;
}

// kWorking for all that will end without this process, if only that counts.
Activity Patience::LookAt(Watched* watched) {
  if (!terms_.dependent) return pylaunch::engine::Look(watched->thread);
  int64_t cpu = CpuNanoseconds(watched->thread);
  bool stirred = std::exchange(watched->cpu, cpu) != cpu;
  Activity activity = LookForEnd(watched->thread);
  if (activity == Activity::kNapping && stirred) ++naps_;
  bool ends =
      activity == Activity::kElsewhere || (activity == Activity::kNapping && naps_ <= kNaps);
  return ends ? Activity::kWorking : activity;
}

int64_t Patience::Cpu() const {
  int64_t sum = 0;
  for (const Watched& watched : watched_) sum += CpuNanoseconds(watched.thread);
  return sum;
}

void Patience::StartOver(int64_t now) {
  quiet_since_ = now;
  cpu_ = Cpu();
}

void Patience::Restart(int64_t now) {
  StartOver(now);
  blocked_since_ = now;
}

}  // namespace pylaunch::engine
