#include "launcher/engine/archive/seal_process.h"

#include <sys/wait.h>

#include <utility>
#include <vector>

#include "launcher/engine/base/child_process.h"

namespace pylaunch::engine {

std::string RunSealer(const std::string& sealer, const cache::SealJob& job, SealWait wait) {
  char* const environment[] = {nullptr};
  std::vector<std::string> arguments;
  arguments.reserve(3);  // Where it grows, GCC 14 sees it beyond its end (-Warray-bounds).
  arguments.push_back("pylaunch-sealer");
  if (wait == SealWait::kNot) arguments.push_back("--detach");
  arguments.push_back(std::to_string(kJobFd));
  const ChildProcess child{sealer, std::move(arguments), environment, wait != SealWait::kEnding,
                           wait != SealWait::kUntilDone};
  int status;
  std::string error = RunChild(child, job.Serialize(), &status);
  if (!error.empty()) return error;
  bool failed = wait == SealWait::kUntilDone && WIFEXITED(status) && WEXITSTATUS(status) != 0;
  return failed ? "the archive could not be written to " + job.archive_path : "";
}

}  // namespace pylaunch::engine
