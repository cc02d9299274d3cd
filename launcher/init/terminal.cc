#include "launcher/init/terminal.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace pylaunch {
namespace {

// tcgetpgrp(3) answers for the caller's own terminal only. TIOCSCTTY wants one that can be read.
bool IsControlling(int fd) {
  return tcgetpgrp(fd) >= 0 && (fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY;
}

bool IsPending(int signal) {
  sigset_t pending;
  return sigpending(&pending) == 0 && sigismember(&pending, signal) == 1;
}

void Drop(int signal) {
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, signal);
  const timespec now = {0, 0};
  sigtimedwait(&only, nullptr, &now);
}

}  // namespace

Terminal::Terminal() : fd_(-1) {
  if (getsid(0) != getpid()) return;
  for (int fd = STDERR_FILENO; fd >= STDIN_FILENO; --fd) {
    if (IsControlling(fd)) fd_ = fd;
  }
  if (fd_ < 0) {
    opened_ = cache::Descriptor(open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (opened_.ok() && IsControlling(opened_.get())) fd_ = opened_.get();
  }
  if (fd_ < 0) return;
  // Whoever gives it up is told by these two that it is gone. One that somebody else has sent is
  // for the program.
  const bool hangup = IsPending(SIGHUP);
  const bool resume = IsPending(SIGCONT);
  if (ioctl(fd_, TIOCNOTTY) != 0) {
    fd_ = -1;
    return;
  }
  if (!hangup) Drop(SIGHUP);
  if (!resume) Drop(SIGCONT);
}

void Terminal::Give() const {
  if (taken()) ioctl(fd_, TIOCSCTTY, 0);
}

}  // namespace pylaunch
