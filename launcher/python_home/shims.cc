#include "launcher/python_home/shims.h"

#include <optional>
#include <string_view>

#include "launcher/python_home/files.h"

namespace pylaunch::home {
namespace {

using Getenv = std::function<std::string(const char*)>;

class Inputs {
 public:
  Inputs(const Getenv& getenv, const std::string& shim) : getenv_(getenv), shim_(shim) {}

  std::string Take() {
    for (const char* name : {"PATH", "HOME", "PYENV_VERSION", "PYENV_ROOT", "PYENV_DIR",
                             "ASDF_PYTHON_VERSION", "ASDF_DATA_DIR"}) {
      Add(getenv_(name));
    }
    const std::string here = LogicalWorkingDirectory();
    Add(here);
    AddVersionFilesUpwards(here);
    AddVersionFilesUpwards(getenv_("PYENV_DIR"));
    AddFile(getenv_("HOME") + "/.tool-versions");
    // pyenv's shims know their root themselves, so the environment's need not be it.
    for (const std::string& root :
         {getenv_("PYENV_ROOT"), getenv_("HOME") + "/.pyenv", Folder(Folder(shim_))}) {
      AddFile(root + "/version");
      AddStamp(root + "/versions");  // A new one can be what "3.12" stands for.
    }
    return Digest(all_);
  }

 private:
  void Add(std::string_view value) {
    all_ += std::to_string(value.size());
    all_ += ':';
    all_ += value;
  }

  // The contents, not a stamp: "3.11.7" and "3.12.1" have one size, and clocks are coarse.
  void AddFile(const std::string& path) {
    constexpr size_t kEnough = 4096;
    const std::optional<std::string> text = ReadStart(path, kEnough);
    all_ += text.has_value() ? '+' : '-';
    Add(text.value_or(""));
  }

  void AddStamp(const std::string& path) {
    const std::optional<FileState> file = Look(path);
    for (int64_t part : file.value_or(FileState()).stamp.parts) Add(std::to_string(part));
  }

  void AddVersionFilesUpwards(std::string folder) {
    if (!folder.starts_with('/')) return;
    for (;; folder = Folder(folder)) {
      const std::string prefix = folder == "/" ? folder : folder + "/";
      AddFile(prefix + ".python-version");
      AddFile(prefix + ".tool-versions");
      if (folder == "/") return;
    }
  }

  // What a shell calls $PWD: shims look upwards from there, not from where symlinks lead.
  std::string LogicalWorkingDirectory() const {
    const std::string logical = getenv_("PWD");
    const std::optional<FileState> named = logical.starts_with('/') ? Look(logical) : std::nullopt;
    const std::optional<FileState> real = named.has_value() ? Look(".") : std::nullopt;
    return real.has_value() && real->stamp.SameFile(named->stamp) ? logical : WorkingDirectory();
  }

  const Getenv& getenv_;
  const std::string& shim_;
  std::string all_;
};

}  // namespace

std::string ShimInputs(const Getenv& getenv, const std::string& shim) {
  return Inputs(getenv, shim).Take();
}

}  // namespace pylaunch::home
