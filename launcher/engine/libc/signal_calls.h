#ifndef PYLAUNCH_LAUNCHER_ENGINE_LIBC_SIGNAL_CALLS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_LIBC_SIGNAL_CALLS_H_

namespace pylaunch::engine {

// sigaction(2) and signal(3) come to the engine first (libc_calls.h). Listeners are told before the
// call, of calls that are not the engine's; they may be called in a signal handler.

// Somebody asks what is done about signal `number`, or sets it.
void ListenToSignalCalls(void (*listener)(int number));
// Somebody is about to set it, by sigaction(2).
void ListenToSignalSets(void (*listener)(int number));

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_LIBC_SIGNAL_CALLS_H_
