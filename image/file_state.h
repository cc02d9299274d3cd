#ifndef PYLAUNCH_IMAGE_FILE_STATE_H_
#define PYLAUNCH_IMAGE_FILE_STATE_H_

#include <sys/stat.h>

#include <cstdint>
#include <string>

namespace pylaunch::image {

// What of stat(2) proves that a file is the same and unchanged; all 0 if there is none.
struct FileState {
  uint64_t device = 0, inode = 0, size = 0;
  int64_t mtime_ns = 0, ctime_ns = 0;
  bool operator==(const FileState&) const = default;
};
FileState StateOf(const struct stat& st);
FileState StateOf(const std::string& path);
// As a fact's value.
std::string Text(const FileState& state);

struct FileProof {
  std::string path;
  FileState state;
};

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_FILE_STATE_H_
