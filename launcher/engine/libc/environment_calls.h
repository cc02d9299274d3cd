#ifndef PYLAUNCH_LAUNCHER_ENGINE_LIBC_ENVIRONMENT_CALLS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_LIBC_ENVIRONMENT_CALLS_H_

namespace pylaunch::engine {

// The engine stands before libc in the dynamic loader's order, so all calls of getenv(3),
// secure_getenv(3), setenv(3), unsetenv(3), putenv(3) and clearenv(3) in this process come to it
// first, except libc's own. They go on to libc, with no more than an indirect jump between for the
// two that read, and those who listen are told. Listeners may be called on any thread, with or
// without the GIL, and may not throw; errno is kept for the caller.

// `value` null: not set.
using ReadListener = void (*)(const char* name, const char* value);
struct EnvironmentChange {
  const char* name;
  const char* before;  // Null: it was not set.
  const char* value;   // Null: it is not set any more.
  const void* caller;  // The address that the call returns to.
};
// After a successful change.
using ChangeListener = void (*)(const EnvironmentChange& change);

// Null: nobody. One listener each.
void ListenToReads(ReadListener listener);
void ListenToChanges(ChangeListener listener);

// True once clearenv(3) has been called: no variable is then as the start had it, known or not.
bool WasEnvironmentCleared();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_LIBC_ENVIRONMENT_CALLS_H_
