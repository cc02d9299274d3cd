#ifndef PYLAUNCH_LAUNCHER_ENGINE_RECORD_OPEN_FILES_H_
#define PYLAUNCH_LAUNCHER_ENGINE_RECORD_OPEN_FILES_H_

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace pylaunch::engine {

// A file that preloading has left open, and that a restored process opens again under the same
// number. The image's key proves that it is as it was. libffi from 3.4 on keeps its own library
// open, from which it maps code (src/tramp.c), so all that imports ctypes does.
struct OpenFile {
  int fd = -1;
  std::string path;
  int flags = 0;  // open(2)'s, but O_CLOEXEC is in `descriptor_flags`.
  int descriptor_flags = 0;
  off_t at = 0;
};

// What `fd` is. Nothing: it is a standard stream, no regular file of a disk, one that may be
// written or is locked, or one that its path leads to no more.
std::optional<OpenFile> ReopenableFile(int fd);

// Those among this process's descriptors, which `descriptors` has by number, that were not open
// `before`.
std::vector<OpenFile> FilesLeftOpen(const std::map<int, std::string>& before,
                                    const std::map<int, std::string>& descriptors);

// Under its number, which is free. False with errno set: it cannot be.
bool Reopen(const OpenFile& file);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_RECORD_OPEN_FILES_H_
