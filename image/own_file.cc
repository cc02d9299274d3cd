#include "image/own_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "cache/file_env.h"
#include "cache/trust.h"

namespace pylaunch::image {

int OpenOwn(const std::string& path, struct stat* st) {
  const int fd = open(path.c_str(), O_RDONLY | O_NOFOLLOW);
  if (fd < 0) return -1;
  if (fstat(fd, st) == 0 && S_ISREG(st->st_mode) && (st->st_uid == geteuid() || st->st_uid == 0) &&
      cache::WhyNotTrusted(cache::PosixFileEnv(), *st, path).empty()) {
    return fd;
  }
  close(fd);
  errno = EPERM;
  return -1;
}

}  // namespace pylaunch::image
