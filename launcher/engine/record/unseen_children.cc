#include "launcher/engine/record/unseen_children.h"

#include <dlfcn.h>

#include <atomic>

#include "launcher/engine/record/signal_reads.h"

namespace pylaunch::engine {
namespace {

using Signal = sighandler_t (*)(int, sighandler_t);

std::atomic<bool> g_unseen = false;
Signal g_signal = nullptr;

Signal RealSignal() {
  if (g_signal == nullptr) g_signal = reinterpret_cast<Signal>(dlsym(RTLD_NEXT, "signal"));
  return g_signal;
}

// dlsym must not be called in a signal handler, signal may.
__attribute__((constructor)) void FindSignal() { RealSignal(); }

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

extern "C" __attribute__((visibility("default"))) sighandler_t signal(
    int number, sighandler_t handler) noexcept {
  struct sigaction action = {};
  action.sa_handler = handler;
  pylaunch::engine::NoteSignalAction(number, &action);
  pylaunch::engine::NoteSignalCall(number);
  return pylaunch::engine::RealSignal()(number, handler);
}
