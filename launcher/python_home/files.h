#ifndef PYLAUNCH_LAUNCHER_PYTHON_HOME_FILES_H_
#define PYLAUNCH_LAUNCHER_PYTHON_HOME_FILES_H_

#include <sys/stat.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pylaunch::home {

// Files and paths, as all of this folder sees them. Thread-safe; what cannot be looked at is not
// there.

// Up to the last slash; "/" where there is none before it.
std::string Folder(const std::string& path);

// Empty if it is gone.
std::string WorkingDirectory();

// Empty if `path` is relative and the working directory is gone.
std::string Absolute(std::string_view path);

// Tells a file from another one, and from itself after a change.
struct Stamp {
  std::array<int64_t, 4> parts = {};  // Device, inode, size, mtime in nanoseconds.
  bool operator==(const Stamp&) const = default;
  bool SameFile(const Stamp& other) const {
    return parts[0] == other.parts[0] && parts[1] == other.parts[1];
  }
};

struct FileState {
  Stamp stamp;
  mode_t mode = 0;
  bool IsFolder() const { return S_ISDIR(mode); }
  // Whether *we* may run it shows when it is run.
  bool IsProgram() const { return S_ISREG(mode) && (mode & 0111) != 0; }
};

// Symbolic links resolved.
std::optional<FileState> Look(const std::string& path);

// The first `limit` bytes of an open file, and of one by its name, which is not waited for.
std::optional<std::string> ReadUpTo(int fd, size_t limit);
std::optional<std::string> ReadStart(const std::string& path, size_t limit);

// The dynamic loader that a program asks for (contract/program_loader.h); empty: none is known.
// Nothing: it is no ELF file.
std::optional<std::string> LoaderOf(const std::string& path);

// 128 bits in hexadecimal.
std::string Digest(std::string_view text);

}  // namespace pylaunch::home

#endif  // PYLAUNCH_LAUNCHER_PYTHON_HOME_FILES_H_
