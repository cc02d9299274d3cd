#include "image/own_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace pylaunch::image {

int OpenOwn(const std::string& path, struct stat* st) {
  const int fd = open(path.c_str(), O_RDONLY | O_NOFOLLOW);
  if (fd < 0) return -1;
  if (fstat(fd, st) == 0 && S_ISREG(st->st_mode) && (st->st_uid == geteuid() || st->st_uid == 0) &&
      (st->st_mode & 022) == 0) {
    return fd;
  }
  close(fd);
  errno = EPERM;
  return -1;
}

}  // namespace pylaunch::image
