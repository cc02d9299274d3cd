#include "launcher/own_files.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <vector>

#include "launcher/contract/handoff.h"
#include "launcher/contract/text.h"

namespace pylaunch {
namespace {

bool IsFolder(const std::string& path) {
  struct stat st;
  return stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
}

bool IsProgram(const std::string& path) {
  struct stat st;
  return stat(path.c_str(), &st) == 0 && S_ISREG(st.st_mode) && access(path.c_str(), X_OK) == 0;
}

std::string RealPath(const std::string& path) {
  char real[PATH_MAX];
  return realpath(path.c_str(), real) == nullptr ? "" : real;
}

// As execvp(3) finds a name without a slash; empty: nowhere.
std::string OnPath(std::string_view name) {
  const char* variable = std::getenv("PATH");
  for (std::string_view path = variable == nullptr ? "" : variable; !path.empty();) {
    const std::string_view folder = path.substr(0, path.find(':'));
    path.remove_prefix(std::min(path.size(), folder.size() + 1));
    std::string file = Cat(folder.empty() ? "." : folder, "/", name);
    if (IsProgram(file)) return file;
  }
  return "";
}

std::string Folder(const std::string& self) { return self.substr(0, self.rfind('/')); }

// Empty: there is none, and errno says why.
std::string LibraryOf(const std::string& self) {
  const std::string folder = Folder(self);
  if (access(Cat(folder, "/", kSealerFile).c_str(), R_OK) == 0) return folder;
  const std::string installed = Cat(folder, "/", kInstalledLibrary);
  return IsFolder(installed) ? installed : "";
}

// What the running program may be called, best first.
std::vector<std::string> Candidates(const char* argv0) {
  char exe[PATH_MAX];
  const ssize_t size = readlink("/proc/self/exe", exe, sizeof exe);
  if (size > 0 && exe[0] == '/') return {std::string(exe, static_cast<size_t>(size))};
  std::vector<std::string> paths;
  for (const char* name : {reinterpret_cast<const char*>(getauxval(AT_EXECFN)), argv0}) {
    if (name == nullptr || *name == '\0') continue;
    const std::string real = RealPath(std::strchr(name, '/') != nullptr ? name : OnPath(name));
    if (!real.empty()) paths.push_back(real);
  }
  return paths;
}

}  // namespace

OwnFiles FindOwnFiles(const char* argv0) {
  OwnFiles files;
  for (const std::string& self : Candidates(argv0)) {
    files.library = LibraryOf(self);
    const int error = errno;
    if (files.self.empty() || !files.library.empty()) files.self = self;
    if (!files.library.empty()) return files;
    if (!files.cause.empty()) continue;
    files.cause = Cat("its own files are not beside ", self, ": ", Folder(self), "/",
                      kInstalledLibrary, ": ", std::strerror(error));
  }
  files.hint =
      "keep bin/pylaunch and libexec/pylaunch together, as they were installed; a symbolic link to "
      "bin/pylaunch may lie anywhere, a copy or a hard link may not";
  if (!files.self.empty()) return files;
  files.cause = "/proc is not mounted, and nothing else tells where its own files lie";
  files.hint = "mount /proc, or start pylaunch by its path";
  return files;
}

}  // namespace pylaunch
