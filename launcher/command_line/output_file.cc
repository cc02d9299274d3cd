#include "launcher/command_line/output_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/status/status.h"
#include "launcher/contract/text.h"

namespace pylaunch {
namespace {

namespace fs = std::filesystem;

absl::Status Cannot(std::string_view option, const std::string& path, std::string_view cause) {
  return absl::InvalidArgumentError(
      Cat(option, ": cannot write ", path, "\n  cause: ", cause,
          "\n  hint:  name a file in a folder that you may write to"));
}

}  // namespace

absl::StatusOr<std::string> OutputFile(std::string_view option, const std::string& path) {
  std::error_code error;
  const fs::path absolute = fs::absolute(path, error);
  if (error) return Cannot(option, path, error.message());
  const fs::file_status there = fs::status(absolute, error);
  fs::path file = absolute;
  if (fs::is_directory(there)) return Cannot(option, path, "it is a folder");
  if (fs::exists(there)) {
    if (!fs::is_regular_file(there)) return Cannot(option, path, "it is no regular file");
    file = fs::canonical(absolute, error);
    if (error) return Cannot(option, path, error.message());
  }
  const fs::path folder = fs::canonical(file.parent_path(), error);
  if (error) return Cannot(option, path, Cat(file.parent_path().string(), ": ", error.message()));
  if (!fs::is_directory(folder)) return Cannot(option, path, Cat(folder.string(), " is no folder"));
  if (access(folder.c_str(), W_OK | X_OK) != 0)
    return Cannot(option, path, Cat(folder.string(), ": ", std::strerror(errno)));
  if (file.filename().empty()) return Cannot(option, path, "it is a folder");
  return (folder / file.filename()).string();
}

}  // namespace pylaunch
