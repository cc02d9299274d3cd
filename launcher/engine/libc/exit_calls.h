#ifndef PYLAUNCH_LAUNCHER_ENGINE_LIBC_EXIT_CALLS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_LIBC_EXIT_CALLS_H_

namespace pylaunch::engine {

// __cxa_atexit, by which C++ registers destructors and C its atexit(3), and on_exit(3) come to the
// engine first (libc_calls.h). Not seen: what exit_list.h says.

// `library`: its __dso_handle, an address inside of it; null for the executable.
using ExitFunction = void (*)(void*);
using ExitListener = int (*)(ExitFunction function, void* argument, void* library);
// Called instead of __cxa_atexit; what it returns is returned.
void ListenToExitCalls(ExitListener listener);
// True if all that others than the engine have registered was told to the listener.
bool AllExitCallsTold();

// The C library's own.
int RegisterForExit(ExitFunction function, void* argument, void* library);
int RegisterForExit(void (*function)(int status, void*));

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_LIBC_EXIT_CALLS_H_
