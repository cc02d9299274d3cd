#include "launcher/engine/libc/signal_calls.h"

#include <signal.h>

#include <atomic>

#include "launcher/engine/libc/libc_calls.h"
#include "launcher/engine/libc/unseen_children.h"

namespace pylaunch::engine {
namespace {

using Listener = void (*)(int);

// sigaction(2) and signal(3) are called with nothing of ours.
constinit struct {
  std::atomic<Listener> on_call = nullptr;
  std::atomic<Listener> on_set = nullptr;
  LibcFunction<int (*)(int, const struct sigaction*, struct sigaction*)> libc_sigaction{
      "sigaction"};
  LibcFunction<sighandler_t (*)(int, sighandler_t)> libc_signal{"signal"};
} g;

// Both may be called in a signal handler.
__attribute__((constructor)) void FindSignalCalls() {
  g.libc_sigaction.Find();
  g.libc_signal.Find();
}

void Tell(const std::atomic<Listener>& to, int number) {
  if (const Listener listener = to.load(std::memory_order_relaxed)) listener(number);
}

}  // namespace

void ListenToSignalCalls(void (*listener)(int number)) { g.on_call = listener; }
void ListenToSignalSets(void (*listener)(int number)) { g.on_set = listener; }

}  // namespace pylaunch::engine

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED int sigaction(int number, const struct sigaction* action, struct sigaction* old) noexcept {
  namespace engine = pylaunch::engine;
  const bool ours = engine::IsOurs(__builtin_return_address(0));
  if (!ours && action != nullptr) engine::Tell(engine::g.on_set, number);
  engine::NoteSignalAction(number, action);
  if (!ours) engine::Tell(engine::g.on_call, number);
  return engine::g.libc_sigaction.Get()(number, action, old);
}

EXPORTED sighandler_t signal(int number, sighandler_t handler) noexcept {
  namespace engine = pylaunch::engine;
  struct sigaction action = {};
  action.sa_handler = handler;
  engine::NoteSignalAction(number, &action);
  if (!engine::IsOurs(__builtin_return_address(0))) engine::Tell(engine::g.on_call, number);
  return engine::g.libc_signal.Get()(number, handler);
}
