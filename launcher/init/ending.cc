#include "launcher/init/ending.h"

#include <string.h>

namespace pylaunch {

std::string Ending::InWords() const {
  if (signal == 0) return "exit code " + std::to_string(code);
  const char* name = sigabbrev_np(signal);
  const std::string number = std::to_string(signal);
  return "killed by signal " + number + (name == nullptr ? "" : std::string(" (SIG") + name + ")");
}

}  // namespace pylaunch
