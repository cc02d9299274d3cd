#ifndef PYLAUNCH_LAUNCHER_ENGINE_ENVIRONMENT_OS_ENVIRON_HOOK_H_
#define PYLAUNCH_LAUNCHER_ENGINE_ENVIRONMENT_OS_ENVIRON_HOOK_H_

namespace pylaunch::engine {

// Who is told what Python code reads of os.environ and os.environb, with the GIL held, on any
// thread.
struct EnvironListener {
  void (*read)(const char* name, const char* value);  // `value` null: not set.
  void (*enumerated)();  // Somebody goes through all of it, in the code that runs
                         // (environ_prefixes.h)...
  void (*fetched)(const char* name, const char* value);  // ...and gets this value.
};

// os.environ stays the object that it is, of its own class, with its own dict: only the function in
// its attribute `encodekey` (Lib/os.py, class _Environ), which translates a name for every look-up,
// is another one from now on, and `decodekey`, which translates the names that iterating yields.
// Imports os. Once, until UnhookEnviron. REQUIRES: the GIL; no exception is set.
void HookEnviron(const EnvironListener& listener);
bool IsEnvironHooked();
// They are as before, also for who took a reference in between. REQUIRES: the GIL.
void UnhookEnviron();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_ENVIRONMENT_OS_ENVIRON_HOOK_H_
