#include "launcher/workers/gpus.h"

#include <filesystem>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"

namespace pylaunch {

std::vector<std::string> VisibleGpus(const char* visible, const std::string& folder) {
  std::vector<std::string> gpus;
  if (visible != nullptr) {
    for (const auto part : absl::StrSplit(visible, ',')) {
      std::string name(part);
      absl::StripAsciiWhitespace(&name);
      if (name.empty() || name[0] == '-') break;
      gpus.push_back(name);
    }
    return gpus;
  }
  std::error_code error;
  for (auto it = std::filesystem::directory_iterator(folder, error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    gpus.push_back(std::to_string(gpus.size()));
  }
  return gpus;
}

}  // namespace pylaunch
