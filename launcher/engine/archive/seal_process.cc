#include "launcher/engine/archive/seal_process.h"

#include <sys/wait.h>

#include "launcher/engine/base/child_process.h"

namespace pylaunch::engine {

std::string RunSealer(const std::string& sealer, const cache::SealJob& job, SealWait wait) {
  char* const environment[] = {nullptr};
  ChildProcess child{sealer, {"pylaunch-sealer"}, environment, wait != SealWait::kEnding};
  if (wait == SealWait::kNot) child.arguments.push_back("--detach");
  child.session = wait != SealWait::kUntilDone;
  child.arguments.push_back(std::to_string(kJobFd));
  int status;
  std::string error = RunChild(child, job.Serialize(), &status);
  if (!error.empty()) return error;
  bool failed = wait == SealWait::kUntilDone && WIFEXITED(status) && WEXITSTATUS(status) != 0;
  return failed ? "the archive could not be written to " + job.archive_path : "";
}

}  // namespace pylaunch::engine
