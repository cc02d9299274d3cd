#ifndef PYLAUNCH_LAUNCHER_COMMAND_LINE_WORKER_OPTIONS_H_
#define PYLAUNCH_LAUNCHER_COMMAND_LINE_WORKER_OPTIONS_H_

#include <optional>
#include <string>

#include "absl/status/status.h"

namespace pylaunch {

// When a worker that has ended is started again, and how often at most.
struct RestartPolicy {
  enum class When { kNever, kOnFailure, kAlways };
  When when = When::kNever;
  std::optional<int> most;  // Restarts of one worker; nothing: no bound.
};

// --workers and what goes with it, as numbers. Counts are checked to be within their bounds.
struct WorkerOptions {
  static constexpr int kMost = 4096;  // Workers.

  int count = 0;           // 0: no workers; the program runs as it is.
  bool automatic = false;  // --workers auto: as many as there are processors for this process.
  bool distributed = false;
  std::string log_dir;  // Empty: output goes through the supervisor.
  bool no_prefix = false;
  std::optional<int> threads;  // --threads K.
  bool keep_threads = false;   // --threads keep.
  int gpus_per_worker = 0;     // 0: not dealt out.
  RestartPolicy restart;
  bool stop_on_failure = false;
  double grace_seconds = 30;
  std::optional<int> stdin_to;

  bool wanted() const { return count > 0 || automatic; }
};

// The values as they were written; empty: not given.
struct WorkerWords {
  std::string workers;
  bool distributed = false;
  std::string log_dir;
  bool no_prefix = false;
  std::string threads;
  std::string gpus_per_worker;
  std::string restart;
  std::string on_failure;
  std::string grace;
  std::string stdin_to;
};

// Reads `words` into `options`. INVALID_ARGUMENT: what is wrong, beginning with the option's name,
// as "--workers: ...", without a hint.
absl::Status ParseWorkerWords(const WorkerWords& words, WorkerOptions* options);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_COMMAND_LINE_WORKER_OPTIONS_H_
