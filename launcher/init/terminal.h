#ifndef PYLAUNCH_LAUNCHER_INIT_TERMINAL_H_
#define PYLAUNCH_LAUNCHER_INIT_TERMINAL_H_

#include "cache/descriptor.h"

namespace pylaunch {

// The controlling terminal of a session's leader on its way to the leader of another session
// (tty_ioctl(4), "Controlling terminal").
class Terminal {
 public:
  // Takes it from this process, if it leads its session and has one. REQUIRES: SIGHUP and SIGCONT
  // are blocked; what the kernel sends of them for this does not stay pending.
  Terminal();
  // True if there is one now that no session has.
  bool taken() const { return fd_ >= 0; }
  // Gives it to this process, a session's leader, and its group becomes the foreground.
  void Give() const;

 private:
  int fd_;
  cache::Descriptor opened_{-1};
};

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_INIT_TERMINAL_H_
