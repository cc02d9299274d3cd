#ifndef PYLAUNCH_LAUNCHER_INIT_INIT_H_
#define PYLAUNCH_LAUNCHER_INIT_INIT_H_

#include <optional>

#include "launcher/command_line/options.h"

namespace pylaunch {

// The kernel keeps from process 1 of a namespace every signal that it has no handler for, and makes
// it the parent of all orphans (pid_namespaces(7)). A program that does not know that does not end
// when its container is stopped, and leaves zombies. So there are two processes: the one that was
// started, which passes signals on and takes orphans, and its child, which becomes the program.
// Docs: docs/containers.md.
//
// The program finds of its surroundings what it would find in the place of the one that was
// started. If that one leads its session, as runtimes of containers have it, then the child leads
// one of its own and has the terminal: what is typed there is the kernel's business alone. Else it
// stays in session and process group, and gets twice what somebody sends to the whole group by
// kill(2).
//
// This is the long way. The usual start as process 1 goes it without the C library: usual_start.cc.
struct InitRole {
  // Set in the process that was started, when all is over.
  std::optional<int> exit_code;
  // The end of the program is the end of all processes that it has started.
  bool ends_everything = false;
};

// Returns in the child; where `mode` wants no init; and, with a warning, without memory for another
// process. In the process that was started it comes back only when the program has ended.
InitRole BecomeInit(InitMode mode, bool explain);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_INIT_INIT_H_
