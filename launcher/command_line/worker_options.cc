#include "launcher/command_line/worker_options.h"

#include <charconv>
#include <cmath>
#include <string_view>

#include "launcher/contract/text.h"

namespace pylaunch {
namespace {

absl::Status Wrong(std::string_view option, std::string_view value, std::string_view wanted) {
  return absl::InvalidArgumentError(Cat(option, ": '", value, "' is not ", wanted));
}

template <typename T>
std::optional<T> Number(std::string_view text, T least, T most) {
  T number;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number >= least && number <= most ? std::optional(number) : std::nullopt;
}

absl::Status ParseRestart(std::string_view text, RestartPolicy* policy) {
  constexpr std::string_view kWanted = "never, on-failure, on-failure:MAX, always or always:MAX";
  constexpr int kMostRestarts = 1'000'000;
  const size_t colon = text.find(':');
  const std::string_view when = text.substr(0, colon);
  using When = RestartPolicy::When;
  if (when == "never" && colon == text.npos) {
    policy->when = When::kNever;
  } else if (when == "on-failure") {
    policy->when = When::kOnFailure;
  } else if (when == "always") {
    policy->when = When::kAlways;
  } else {
    return Wrong("--restart", text, kWanted);
  }
  policy->most.reset();
  if (colon == text.npos) return absl::OkStatus();
  policy->most = Number(text.substr(colon + 1), 0, kMostRestarts);
  return policy->most ? absl::OkStatus() : Wrong("--restart", text, kWanted);
}

absl::Status ParseCounts(const WorkerWords& words, WorkerOptions* options) {
  constexpr int kMost = WorkerOptions::kMost;
  if (words.workers == "auto") {
    options->automatic = true;
    options->count = 0;
  } else if (!words.workers.empty()) {
    const std::optional<int> count = Number(words.workers, 1, kMost);
    if (!count)
      return Wrong("--workers", words.workers,
                   Cat("auto or a number from 1 to ", std::to_string(kMost)));
    options->count = *count;
    options->automatic = false;
  }
  if (words.threads == "keep") {
    options->keep_threads = true;
  } else if (!words.threads.empty()) {
    options->threads = Number(words.threads, 1, kMost);
    if (!options->threads) return Wrong("--threads", words.threads, "keep or a number of threads");
    options->keep_threads = false;
  }
  if (!words.gpus_per_worker.empty()) {
    const std::optional<int> gpus = Number(words.gpus_per_worker, 1, kMost);
    if (!gpus) return Wrong("--gpus-per-worker", words.gpus_per_worker, "a number of GPUs");
    options->gpus_per_worker = *gpus;
  }
  if (!words.stdin_to.empty()) {
    options->stdin_to = Number(words.stdin_to, 0, kMost - 1);
    if (!options->stdin_to) return Wrong("--stdin-to", words.stdin_to, "the number of a worker");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ParseWorkerWords(const WorkerWords& words, WorkerOptions* options) {
  constexpr double kLongestGrace = 1e6;
  if (absl::Status status = ParseCounts(words, options); !status.ok()) return status;
  options->distributed |= words.distributed;
  options->no_prefix |= words.no_prefix;
  if (!words.log_dir.empty()) options->log_dir = words.log_dir;
  if (!words.restart.empty()) {
    if (absl::Status status = ParseRestart(words.restart, &options->restart); !status.ok())
      return status;
  }
  if (!words.on_failure.empty()) {
    if (words.on_failure != "continue" && words.on_failure != "stop") {
      return Wrong("--on-failure", words.on_failure, "continue or stop");
    }
    options->stop_on_failure = words.on_failure == "stop";
  }
  if (!words.grace.empty()) {
    const std::optional<double> grace = Number(words.grace, 0.0, kLongestGrace);
    if (!grace || !std::isfinite(*grace))
      return Wrong("--grace", words.grace, "a number of seconds");
    options->grace_seconds = *grace;
  }
  return absl::OkStatus();
}

}  // namespace pylaunch
