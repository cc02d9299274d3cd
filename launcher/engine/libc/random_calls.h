#ifndef PYLAUNCH_LAUNCHER_ENGINE_LIBC_RANDOM_CALLS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_LIBC_RANDOM_CALLS_H_

namespace pylaunch::engine {

// Like the calls of file_calls.h, getrandom(2) and getentropy(3) come to the engine first. Not
// seen: libc's own, system calls made without it, and what is read from /dev/urandom.

// `caller`: an address in the code that calls. `flags`: of getrandom. Before the call, on any
// thread, with or without the GIL; errno is kept.
using RandomListener = void (*)(const void* caller, unsigned long size, unsigned flags);

// Null: nobody.
void ListenToRandomCalls(RandomListener listener);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_LIBC_RANDOM_CALLS_H_
