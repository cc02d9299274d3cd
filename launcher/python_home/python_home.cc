#include "launcher/python_home/python_home.h"

#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "launcher/contract/text.h"
#include "launcher/python_home/files.h"
#include "launcher/python_home/inquiry.h"
#include "launcher/python_home/probe.h"

// Reading order: Search, here, finds candidates; inquiry.cc says what one is: from its record
// (records.cc), which for a shim depends on more than the file (shims.cc), or by running it
// (probe.cc).

namespace pylaunch {
namespace {

using home::Absolute;
using home::FileState;
using home::Folder;
using home::Look;
using Getenv = std::function<std::string(const char*)>;

class Search {
 public:
  explicit Search(const HomeQuery& query) : query_(query), self_(Look(query.self)) {}

  absl::StatusOr<PythonHome> Run() {
    if (!query_.requested.empty()) return Requested();
    if (BesidePylaunch() || Environment("VIRTUAL_ENV") || Environment("CONDA_PREFIX") ||
        OnPath("python3", "PATH") || OnPath("python", "PATH")) {
      return Found();
    }
    return absl::NotFoundError(
        Cat("no Python found", Tried(), "\n  hint:  name one: --python=PATH, or PYLAUNCH_PYTHON"));
  }

 private:
  absl::StatusOr<PythonHome> Requested() {
    const std::string& requested = query_.requested;
    const char* why = "--python or PYLAUNCH_PYTHON";
    const bool by_name = requested.find('/') == requested.npos;
    if (by_name && OnPath(requested, why)) return Found();
    const std::string path = Absolute(requested);
    const std::optional<FileState> file = Look(path);
    const bool folder = file.has_value() && file->IsFolder();
    if (folder ? InPrefix(path, why) : !by_name && Try(path, file, why)) return Found();
    return absl::InvalidArgumentError(
        Cat("the requested Python '", requested, "' cannot be used", Tried(),
            "\n  hint:  --python takes an executable, a name on PATH or an environment's folder"));
  }

  bool BesidePylaunch() {
    if (!query_.self.starts_with('/')) return false;
    const std::string folder = Folder(query_.self), above = Folder(folder);
    if (Look(folder + "/pyvenv.cfg").has_value() &&
        InPrefix(folder, "pyvenv.cfg beside pylaunch")) {
      return true;
    }
    return Look(above + "/pyvenv.cfg").has_value() && InPrefix(above, "pyvenv.cfg above pylaunch");
  }

  bool Environment(const char* variable) {
    const std::string prefix = Absolute(query_.getenv(variable));
    return !query_.getenv(variable).empty() && InPrefix(prefix, variable);
  }

  // Not every installation has "python"; an environment has both.
  bool InPrefix(const std::string& prefix, const char* why) {
    const std::string python = prefix + "/bin/python";
    const std::optional<FileState> file = Look(python);
    if (file.has_value()) return Try(python, file, why);
    return Try(python + "3", Look(python + "3"), why);
  }

  bool OnPath(const std::string& name, const char* why) {
    std::string path = query_.getenv("PATH");
    if (path.empty()) {  // As execvp does.
      path.resize(confstr(_CS_PATH, nullptr, 0));
      path.resize(confstr(_CS_PATH, path.data(), path.size()) - 1);
    }
    for (size_t begin = 0; begin <= path.size();) {
      const size_t end = std::min(path.find(':', begin), path.size());
      const std::string folder = Absolute(path.substr(begin, end - begin));  // Empty: "here".
      begin = end + 1;
      const std::string file = Cat(folder, folder.ends_with('/') ? "" : "/", name);
      const std::optional<FileState> state = Look(file);
      if (state.has_value() && Try(file, state, why)) return true;
    }
    tried_.push_back(Cat("no '", name, "' on PATH"));
    return false;
  }

  bool Try(const std::string& candidate, const std::optional<FileState>& file, const char* why) {
    std::string cause;
    if (!file.has_value()) {
      cause = "no such file";
    } else if (!file->IsProgram()) {
      cause = "not an executable file";
    } else if (self_.has_value() && self_->stamp.SameFile(file->stamp)) {
      cause = "pylaunch itself";
    } else {
      home_.why = why;
      if (home::Identify(query_, self_, candidate, file->stamp, &home_, &cause)) return true;
    }
    tried_.push_back(Cat(why, ": ", candidate, ": ", cause));
    return false;
  }

  PythonHome Found() {
    for (const std::string& tried : tried_) home_.why += Cat("; before it: ", tried);
    return std::move(home_);
  }

  std::string Tried() const {
    std::string text;
    for (const std::string& tried : tried_) text += Cat("\n  tried: ", tried);
    return text;
  }

  const HomeQuery& query_;
  const std::optional<FileState> self_;
  std::vector<std::string> tried_;
  PythonHome home_;
};

constexpr std::pair<const char*, std::string_view> kCacheParents[] = {
    {"XDG_CACHE_HOME", "/pylaunch"}, {"HOME", "/.cache/pylaunch"}};

// Only slashes: nothing is left.
std::string WithoutLastSlashes(std::string path) {
  path.resize(path.find_last_not_of('/') + 1);
  return path;
}

}  // namespace

absl::StatusOr<PythonHome> FindPython(const HomeQuery& query) {
  if (!query.getenv(home::kProbing).empty()) {
    return absl::FailedPreconditionError(
        "started by a program that pylaunch was asking whether it is a Python\n"
        "  cause: a 'python' on PATH, or of an environment, is a script that starts pylaunch\n"
        "  hint:  name the real one: --python=PATH, or PYLAUNCH_PYTHON");
  }
  return Search(query).Run();
}

std::string CacheFolder(std::string_view flag, const Getenv& getenv) {
  if (!flag.empty()) {
    const std::string folder = WithoutLastSlashes(Absolute(flag));
    return folder.empty() ? "/" : folder;
  }
  for (const auto& [variable, below] : kCacheParents) {
    const std::string parent = getenv(variable);
    if (parent.starts_with('/')) return Cat(WithoutLastSlashes(parent), below);
  }
  return "";
}

std::string WhyNoCacheFolder(const Getenv& getenv) {
  std::string why = "neither --cache nor PYLAUNCH_CACHE names a folder";
  for (const auto& [variable, below] : kCacheParents) {
    const std::string parent = getenv(variable);
    why += Cat("; ", variable,
               parent.empty() ? " is not set" : Cat(" is no absolute path: '", parent, "'"));
  }
  return why;
}

}  // namespace pylaunch
