#ifndef PYLAUNCH_LAUNCHER_WORKERS_SUPERVISOR_H_
#define PYLAUNCH_LAUNCHER_WORKERS_SUPERVISOR_H_

#include "launcher/command_line/worker_options.h"
#include "launcher/workers/worker_plan.h"

namespace pylaunch {

struct SupervisorOptions {
  WorkerOptions workers;
  bool json = false;
  bool explain = false;
  // The first worker may make an image: the others start when it is known to have been made, or
  // not.
  bool image = false;
};

// What this process is after Supervise.
struct Role {
  bool is_worker = false;
  int exit_code = 0;  // Of one that is none: everything is over.
  // Of the worker whose image others wait for: a descriptor whose end tells them that they wait no
  // more; or -1.
  int image_turn = -1;
};

// Starts `plan.count` processes and minds them until they have ended. Comes back in each of them,
// as a worker whose environment and standard streams are set, and, when all is over, in the process
// that called. Docs: docs/workers.md.
Role Supervise(const SupervisorOptions& options, const WorkerPlan& plan);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_WORKERS_SUPERVISOR_H_
