#include "launcher/engine/libc/unseen_children.h"

#include <atomic>

namespace pylaunch::engine {
namespace {

// sigaction(2) and signal(3) are called with nothing of ours.
std::atomic<bool> g_unseen = false;

bool IsUnseenBy(const struct sigaction& action) {
  return action.sa_handler == SIG_IGN || (action.sa_flags & SA_NOCLDWAIT) != 0;
}

}  // namespace

void NoteSignalAction(int number, const struct sigaction* action) {
  if (number == SIGCHLD && action != nullptr && IsUnseenBy(*action)) g_unseen = true;
}

bool MayHaveHadUnseenChildren() {
  struct sigaction now;
  return g_unseen || (sigaction(SIGCHLD, nullptr, &now) == 0 && IsUnseenBy(now));
}

}  // namespace pylaunch::engine
