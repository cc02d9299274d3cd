#ifndef PYLAUNCH_LAUNCHER_INIT_TERMINAL_H_
#define PYLAUNCH_LAUNCHER_INIT_TERMINAL_H_

namespace pylaunch {

// The controlling terminal of a session's leader on its way to the leader of another session
// (tty_ioctl(4), "Controlling terminal"). Needs no C library.
class Terminal {
 public:
  // Takes it from this process, if it leads its session and has one. REQUIRES: SIGHUP and SIGCONT
  // are blocked; what the kernel sends of them for this does not stay pending.
  Terminal();
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  // Gives it, if it was taken, to this process, a session's leader, and its group becomes the
  // foreground.
  void Give() const;

 private:
  long opened_ = -1;  // Owned.
  long fd_ = -1;      // Of a terminal that no session has now; -1: none was taken.
};

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_INIT_TERMINAL_H_
