#include "launcher/engine/shield/other_end.h"

#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstdlib>
#include <cstring>

namespace pylaunch::engine {
namespace {

// True if `matches` says so of some descriptor of this process, or they cannot be listed.
template <typename Matches>
bool AnyDescriptor(Matches matches) {
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) return true;
  bool found = false;
  while (const dirent* entry = found ? nullptr : readdir(folder)) {
    const int fd = std::atoi(entry->d_name);
    found = entry->d_name[0] != '.' && fd != dirfd(folder) && matches(fd);
  }
  closedir(folder);
  return found;
}

bool PipeEndIsElsewhere(int fd, const struct stat& pipe) {
  const int mode = fcntl(fd, F_GETFL) & O_ACCMODE;
  return !AnyDescriptor([&](int other) {
    struct stat st;
    return fstat(other, &st) == 0 && st.st_dev == pipe.st_dev && st.st_ino == pipe.st_ino &&
           (fcntl(other, F_GETFL) & O_ACCMODE) != mode;
  });
}

// The port of an Internet address, in network order; 0: it is none.
in_port_t Port(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) return reinterpret_cast<const sockaddr_in&>(address).sin_port;
  if (address.ss_family == AF_INET6)
    return reinterpret_cast<const sockaddr_in6&>(address).sin6_port;
  return 0;
}

const char* Path(const sockaddr_storage& address) {
  return address.ss_family == AF_UNIX ? reinterpret_cast<const sockaddr_un&>(address).sun_path
                                      : nullptr;
}

bool MayBe(const sockaddr_storage& own, const sockaddr_storage& peer) {
  if (Path(peer) == nullptr) return Port(own) == Port(peer);
  // An abstract name begins with a zero byte, as no name at all does.
  return Path(own) != nullptr &&
         std::strncmp(Path(own), Path(peer), sizeof(sockaddr_un::sun_path)) == 0;
}

}  // namespace

bool PeerIsElsewhere(const sockaddr_storage& peer) {
  const bool named = Path(peer) != nullptr && Path(peer)[0] != '\0';
  if (!named && Port(peer) == 0) return false;
  return !AnyDescriptor([&](int fd) {
    sockaddr_storage own = {};
    socklen_t size = sizeof own;
    return getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size) == 0 && MayBe(own, peer);
  });
}

bool OtherEndIsElsewhere(int fd) {
  struct stat st;
  if (fstat(fd, &st) != 0) return false;
  if (S_ISFIFO(st.st_mode)) return PipeEndIsElsewhere(fd, st);
  sockaddr_storage peer = {};
  socklen_t size = sizeof peer;
  return S_ISSOCK(st.st_mode) && getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0 &&
         PeerIsElsewhere(peer);
}

}  // namespace pylaunch::engine
