#include "launcher/workers/sink.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace pylaunch {
namespace {

int OpenAnew(int fd, const struct stat& st) {
  if (!S_ISFIFO(st.st_mode) && !S_ISCHR(st.st_mode)) return -1;
  return open(("/proc/self/fd/" + std::to_string(fd)).c_str(),
              O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

struct stat StateOf(int fd) {
  struct stat st = {};
  fstat(fd, &st);
  return st;
}

}  // namespace

Sink::Sink(int fd) : given_(fd), own_(OpenAnew(fd, StateOf(fd))) {
  const struct stat st = StateOf(fd);
  is_file_ = S_ISREG(st.st_mode) || S_ISBLK(st.st_mode);
}

ssize_t Sink::TryWrite(std::string_view bytes) const {
  if (own_.ok() || is_file_) return write(fd(), bytes.data(), bytes.size());
  const ssize_t sent = send(given_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent >= 0 || errno != ENOTSOCK) return sent;
  // A pipe that is ready takes PIPE_BUF bytes (pipe(7)).
  pollfd ready = {given_, POLLOUT, 0};
  if (poll(&ready, 1, 0) == 1) {
    return write(given_, bytes.data(), std::min<size_t>(bytes.size(), PIPE_BUF));
  }
  errno = EAGAIN;
  return -1;
}

void Sink::Write() {
  while (!empty() && !dead_) {
    const ssize_t n = TryWrite(std::string_view(waiting_).substr(written_));
    if (n >= 0) {
      written_ += static_cast<size_t>(n);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      break;
    } else if (errno != EINTR) {
      dead_ = true;
    }
  }
  if (dead_) written_ = waiting_.size();
  if (empty()) {
    waiting_.clear();
    written_ = 0;
    if (waiting_.capacity() > kFull) waiting_.shrink_to_fit();
  } else if (written_ >= kFull) {
    waiting_.erase(0, written_);
    written_ = 0;
  }
}

}  // namespace pylaunch
