#include "launcher/init/ending.h"

#include <string.h>
#include <sys/wait.h>

namespace pylaunch {

Ending Ending::Of(int status) {
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 0, WIFSIGNALED(status) ? WTERMSIG(status) : 0};
}

std::string Ending::InWords() const {
  if (signal == 0) return "exit code " + std::to_string(code);
  const char* name = sigabbrev_np(signal);
  const std::string number = std::to_string(signal);
  return "killed by signal " + number + (name == nullptr ? "" : std::string(" (SIG") + name + ")");
}

}  // namespace pylaunch
