#include "launcher/workers/worker.h"

#include <algorithm>

namespace pylaunch {

void Worker::Remember(std::string_view bytes) {
  constexpr size_t kKept = 2048;
  last_lines.append(bytes.substr(bytes.size() - std::min(bytes.size(), kKept)));
  if (last_lines.size() > 2 * kKept) last_lines.erase(0, last_lines.size() - kKept);
}

void Worker::Next(const RestartPolicy& policy, bool stopping, int64_t now_ns) {
  using When = RestartPolicy::When;
  constexpr double kGoodSeconds = 10;
  constexpr int kLongestPause = 60;
  constexpr int64_t kSecondNs = 1'000'000'000;
  const bool again =
      policy.when == When::kAlways || (policy.when == When::kOnFailure && !ending.good());
  if (stopping || !again || (policy.most && attempt >= *policy.most)) {
    state = State::kDone;
    return;
  }
  if (seconds >= kGoodSeconds) failures_in_a_row_ = 0;
  const int doublings = std::min(failures_in_a_row_++, 6);
  due_ns = now_ns + std::min(1 << doublings, kLongestPause) * kSecondNs;
  state = State::kWaiting;
  ++attempt;
}

}  // namespace pylaunch
