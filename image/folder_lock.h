#ifndef PYLAUNCH_IMAGE_FOLDER_LOCK_H_
#define PYLAUNCH_IMAGE_FOLDER_LOCK_H_

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <string>

#include "cache/descriptor.h"

namespace pylaunch::image {

// The lock on the folder of images that whoever makes one holds (flock(2)), until this goes.
class FolderLock {
 public:
  explicit FolderLock(const std::string& folder)
      : folder_(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {}

  // `wait`: until nobody else has it. False with errno EWOULDBLOCK: another has it; with any other:
  // there is no folder, or its file system knows no locks.
  bool Take(bool wait) { return flock(folder_.get(), LOCK_EX | (wait ? 0 : LOCK_NB)) == 0; }
  // True if another has it. Where nobody has, this shares it with all who ask.
  bool IsTaken() {
    return folder_.ok() && flock(folder_.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  }
  // From here on it ends with the process.
  void HoldToTheEnd() { folder_.Release(); }

 private:
  cache::Descriptor folder_;
};

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_FOLDER_LOCK_H_
