#include "launcher/workers/worker_plan.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cache/descriptor.h"
#include "launcher/command_line/command_words.h"
#include "launcher/workers/gpus.h"
#include "launcher/workers/processors.h"

namespace pylaunch {
namespace {

constexpr const char* kThreadVariables[] = {"OMP_NUM_THREADS", "MKL_NUM_THREADS",
                                            "OPENBLAS_NUM_THREADS"};

// Libraries take all processors for each process (OpenMP 5.2, 4.1; torch counts them itself), so
// that N workers would have N times as many threads as there are processors.
void ShareThreads(const WorkerOptions& options, WorkerPlan* plan) {
  if (options.keep_threads || (plan->count == 1 && !options.threads)) return;
  const std::string each =
      std::to_string(options.threads.value_or(std::max(1, plan->processors / plan->count)));
  std::vector<std::string> set;
  for (const char* name : kThreadVariables) {
    if (std::getenv(name) != nullptr) continue;
    plan->shared.push_back({name, each, false});
    set.push_back(absl::StrCat(name, "=", each));
  }
  if (set.empty()) return;
  plan->threads_note = absl::StrCat(
      plan->count, " workers on ", plan->processors,
      plan->processors == 1 ? " processor: " : " processors: ", absl::StrJoin(set, " "),
      options.threads ? "" : " (--threads K or keep for something else)");
}

absl::Status DealGpus(const WorkerOptions& options, WorkerPlan* plan) {
  if (options.gpus_per_worker == 0) return absl::OkStatus();
  const std::vector<std::string> gpus = VisibleGpus(std::getenv("CUDA_VISIBLE_DEVICES"));
  const auto each = static_cast<size_t>(options.gpus_per_worker);
  const size_t wanted = each * plan->own.size();
  if (gpus.size() < wanted) {
    return Problem(
        absl::StrCat(plan->count, " workers with --gpus-per-worker ", each, " want ", wanted,
                     " GPUs, and ", gpus.size(), gpus.size() == 1 ? " is visible" : " are visible"),
        "fewer workers, or CUDA_VISIBLE_DEVICES with more GPUs");
  }
  auto next = gpus.begin();
  for (std::vector<EnvSetting>& own : plan->own) {
    const auto end = next + static_cast<std::ptrdiff_t>(each);
    own.push_back({"CUDA_VISIBLE_DEVICES", absl::StrJoin(next, end, ","), false});
    next = end;
  }
  return absl::OkStatus();
}

// One that nobody listens on now; 0: there is none.
int FreePort() {
  const cache::Descriptor listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (!listener.ok() || bind(listener.get(), generic, size) != 0 ||
      getsockname(listener.get(), generic, &size) != 0) {
    return 0;
  }
  return ntohs(address.sin_port);
}

// The names that torch.distributed's env:// and all built on it read (torch/distributed/run.py,
// "Environment Variables").
absl::Status Rank(const WorkerOptions& options, WorkerPlan* plan) {
  if (!options.distributed) return absl::OkStatus();
  const std::string world = std::to_string(plan->count);
  for (const char* name : {"WORLD_SIZE", "LOCAL_WORLD_SIZE"})
    plan->shared.push_back({name, world, false});
  plan->shared.push_back({"MASTER_ADDR", "127.0.0.1", true});
  if (std::getenv("MASTER_PORT") == nullptr) {
    const int port = FreePort();
    if (port == 0) {
      return Problem("--distributed: no free port on 127.0.0.1", "set MASTER_ADDR and MASTER_PORT");
    }
    plan->shared.push_back({"MASTER_PORT", std::to_string(port), false});
  }
  for (size_t k = 0; k < plan->own.size(); ++k) {
    for (const char* name : {"RANK", "LOCAL_RANK"})
      plan->own[k].push_back({name, std::to_string(k), false});
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<WorkerPlan> PlanWorkers(const WorkerOptions& options) {
  WorkerPlan plan;
  plan.processors = UsableProcessors();
  plan.count = options.automatic ? plan.processors : options.count;
  plan.own.resize(static_cast<size_t>(plan.count));
  if (options.stdin_to && *options.stdin_to >= plan.count) {
    return Problem(absl::StrCat("--stdin-to: there is no worker ", *options.stdin_to,
                                ", they are 0 to ", plan.count - 1),
                   "--stdin-to 0");
  }
  plan.shared.push_back({"PYLAUNCH_WORKER_COUNT", std::to_string(plan.count), false});
  for (size_t k = 0; k < plan.own.size(); ++k) {
    plan.own[k].push_back({"PYLAUNCH_WORKER", std::to_string(k), false});
  }
  ShareThreads(options, &plan);
  if (absl::Status status = DealGpus(options, &plan); !status.ok()) return status;
  if (absl::Status status = Rank(options, &plan); !status.ok()) return status;
  return plan;
}

}  // namespace pylaunch
