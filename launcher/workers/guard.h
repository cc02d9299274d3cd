#ifndef PYLAUNCH_LAUNCHER_WORKERS_GUARD_H_
#define PYLAUNCH_LAUNCHER_WORKERS_GUARD_H_

#include <signal.h>
#include <sys/types.h>

#include <optional>

namespace pylaunch {

// Who starts workers is two processes: the one that was started, which passes signals on and waits,
// and its child, the supervisor, in a process group of its own, which does all the work. Whichever
// of the two is killed, the other one ends all that was started: what a killed parent leaves
// becomes the child of the nearest one above that asked for orphans (PR_SET_CHILD_SUBREAPER,
// prctl(2)), and both have.
struct Guard {
  // Of the supervisor: readable (end of file) when the process that was started is gone.
  int alive_fd = -1;
  // The group of the process that was started: the terminal's foreground where that is one.
  pid_t started_group = 0;
  // What was in force before: all signals are blocked now, and those of children and broken pipes
  // have neither handler nor SIG_IGN, or SIG_IGN.
  sigset_t mask_before;
  struct sigaction child_before;
  struct sigaction pipe_before;
};

// In a process that is to become something else: everything as it was before.
void RestoreSignals(const Guard& guard);

// How a signal came that the supervisor gets from the process that was started (sigqueue(3)).
enum class Sender { kSomebody, kTerminal };

// Returns in the supervisor. In the process that was started it comes back only when all is over,
// with the exit code. Without memory for another process, -1 as alive_fd in the one there is.
std::optional<int> BecomeSupervisor(Guard* guard);

// True for a signal that is neither ignored by this process nor sent for what the process itself
// does wrong, and that can be caught.
bool IsPassedOn(int signal);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_WORKERS_GUARD_H_
