#ifndef PYLAUNCH_LAUNCHER_ENGINE_LIBC_UNSEEN_CHILDREN_H_
#define PYLAUNCH_LAUNCHER_ENGINE_LIBC_UNSEEN_CHILDREN_H_

#include <signal.h>

namespace pylaunch::engine {

// The kernel itself reaps the children of a process that ignores SIGCHLD or has SA_NOCLDWAIT set
// for it, and getrusage(2) leaves these out (wait(2) and sigaction(2), NOTES; kernel/exit.c,
// wait_task_zombie). True if this process has had such children at times, as far as is known: now,
// or since its start by a call of sigaction(2) or signal(3).
bool MayHaveHadUnseenChildren();

// For signal_calls; may be called in a signal handler.
void NoteSignalAction(int number, const struct sigaction* action);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_LIBC_UNSEEN_CHILDREN_H_
