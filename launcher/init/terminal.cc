#include "launcher/init/terminal.h"

#include <asm/unistd.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "image/system_call.h"
#include "launcher/init/signal_set.h"

namespace pylaunch {
namespace {

// TIOCGPGRP answers for the caller's own terminal only. TIOCSCTTY wants one that can be read.
bool IsControlling(long fd) {
  int group = 0;
  const auto number = static_cast<uint64_t>(fd);
  if (SystemCall(__NR_ioctl, number, TIOCGPGRP, Address(&group)) != 0) return false;
  return (SystemCall(__NR_fcntl, number, F_GETFL) & O_ACCMODE) != O_WRONLY;
}

bool IsPending(int signal) {
  SignalSet pending = 0;
  SystemCall(__NR_rt_sigpending, Address(&pending), sizeof pending);
  return (pending & SetOf(signal)) != 0;
}

void Drop(int signal) {
  const SignalSet only = SetOf(signal);
  const timespec now = {0, 0};
  SystemCall(__NR_rt_sigtimedwait, Address(&only), 0, Address(&now), sizeof only);
}

}  // namespace

Terminal::Terminal() {
  if (SystemCall(__NR_getsid) != SystemCall(__NR_getpid)) return;
  for (int fd = STDERR_FILENO; fd >= STDIN_FILENO; --fd) {
    if (IsControlling(fd)) fd_ = fd;
  }
  if (fd_ < 0) {
    opened_ = SystemCall(__NR_open, Address("/dev/tty"), O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (opened_ >= 0 && IsControlling(opened_)) fd_ = opened_;
  }
  if (fd_ < 0) return;
  // Whoever gives it up is told by these two that it is gone. One that somebody else has sent is
  // for the program.
  const bool hangup = IsPending(SIGHUP);
  const bool resume = IsPending(SIGCONT);
  if (SystemCall(__NR_ioctl, static_cast<uint64_t>(fd_), TIOCNOTTY) != 0) {
    fd_ = -1;
    return;
  }
  if (!hangup) Drop(SIGHUP);
  if (!resume) Drop(SIGCONT);
}

Terminal::~Terminal() {
  if (opened_ >= 0) SystemCall(__NR_close, static_cast<uint64_t>(opened_));
}

void Terminal::Give() const {
  if (fd_ >= 0) SystemCall(__NR_ioctl, static_cast<uint64_t>(fd_), TIOCSCTTY, 0);
}

}  // namespace pylaunch
