#ifndef PYLAUNCH_LAUNCHER_WORKERS_WORKER_PLAN_H_
#define PYLAUNCH_LAUNCHER_WORKERS_WORKER_PLAN_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launcher/command_line/worker_options.h"
#include "launcher/contract/preload_plan.h"

namespace pylaunch {

// What is known before any worker starts: how many, and what each finds in its environment.
struct WorkerPlan {
  int count = 0;
  int processors = 0;                        // That all of them share.
  std::vector<EnvSetting> shared;            // For every worker.
  std::vector<std::vector<EnvSetting>> own;  // For worker k alone; the attempt comes on top.
  std::string threads_note;  // How many threads each gets, for one line; empty: nothing was set.
};

// By `options`, this process's environment and the machine. INVALID_ARGUMENT, as a report without
// "pylaunch: error: ": there are too few GPUs, no such worker for --stdin-to, no free port.
absl::StatusOr<WorkerPlan> PlanWorkers(const WorkerOptions& options);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_WORKERS_WORKER_PLAN_H_
