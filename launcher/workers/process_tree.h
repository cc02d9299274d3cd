#ifndef PYLAUNCH_LAUNCHER_WORKERS_PROCESS_TREE_H_
#define PYLAUNCH_LAUNCHER_WORKERS_PROCESS_TREE_H_

#include <sys/types.h>

#include <vector>

namespace pylaunch {

// All processes below `ancestors`, by one look at /proc; without zombies. Empty without /proc.
std::vector<pid_t> Descendants(const std::vector<pid_t>& ancestors);

// Ends by SIGKILL all that lives below this process, and takes its own children's statuses, until
// nothing is left; it gives up after some seconds, since a process may hang in the kernel.
// REQUIRES: orphans become this process's children (PR_SET_CHILD_SUBREAPER, prctl(2)), so that none
// of them gets away.
void KillAllBelow();

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_WORKERS_PROCESS_TREE_H_
