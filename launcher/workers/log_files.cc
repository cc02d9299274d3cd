#include "launcher/workers/log_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "cache/descriptor.h"

namespace pylaunch {

absl::StatusOr<std::string> MakeLogFolder(const std::string& dir, size_t worker, int attempt) {
  std::string folder = absl::StrCat(dir, "/", worker, "/", attempt);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    return absl::InvalidArgumentError(absl::StrCat("--log-dir: cannot make ", folder,
                                                   "\n  cause: ", error.message(),
                                                   "\n  hint:  name a folder that can be written"));
  }
  return folder;
}

int OpenLog(const std::string& folder, const char* name) {
  return open(absl::StrCat(folder, "/", name).c_str(),
              O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
}

std::string TailOf(const std::string& path, size_t most) {
  const cache::Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.ok()) return "";
  const off_t size = lseek(file.get(), 0, SEEK_END);
  std::string tail(std::min<size_t>(most, static_cast<size_t>(std::max<off_t>(size, 0))), '\0');
  const ssize_t got =
      pread(file.get(), tail.data(), tail.size(), size - static_cast<off_t>(tail.size()));
  tail.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
  return tail;
}

}  // namespace pylaunch
