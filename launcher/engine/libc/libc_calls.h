#ifndef PYLAUNCH_LAUNCHER_ENGINE_LIBC_LIBC_CALLS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_LIBC_LIBC_CALLS_H_

#include <dlfcn.h>

#include <atomic>

extern "C" const char __ehdr_start[];  // The linker's: where the engine begins and ends.
extern "C" const char _end[];

namespace pylaunch::engine {

// For such functions: true if the engine itself calls, `caller` being __builtin_return_address(0).
inline bool IsOurs(const void* caller) { return caller >= __ehdr_start && caller < _end; }

}  // namespace pylaunch::engine

// For functions of the engine that stand before the C library's and pass calls on: declares `libc`,
// the C library's own `name`, of the type `Function` that the caller has declared. On any thread.
#define PYLAUNCH_LIBC(name)                                     \
  static std::atomic<Function> libc = nullptr;                  \
  if (libc.load(std::memory_order_relaxed) == nullptr) {        \
    libc = reinterpret_cast<Function>(dlsym(RTLD_NEXT, #name)); \
  }

#endif  // PYLAUNCH_LAUNCHER_ENGINE_LIBC_LIBC_CALLS_H_
