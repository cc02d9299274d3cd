// No header that declares these functions is included (file_calls.cc).

#include "launcher/engine/libc/random_calls.h"

#include <atomic>
#include <cerrno>

#include "launcher/engine/libc/libc_calls.h"

namespace pylaunch::engine {
namespace {

// The functions below are called with nothing of ours.
std::atomic<RandomListener> g_listener = nullptr;

void Tell(const void* caller, unsigned long size, unsigned flags) {
  RandomListener listener = g_listener.load(std::memory_order_relaxed);
  if (listener == nullptr) return;
  const int error = errno;
  listener(caller, size, flags);
  errno = error;
}

}  // namespace

void ListenToRandomCalls(RandomListener listener) { g_listener = listener; }

}  // namespace pylaunch::engine

#define PASS_ON(result, name, parameters, arguments, size, flags)            \
  extern "C" __attribute__((visibility("default"))) result name parameters { \
    using Function = result(*) parameters;                                   \
    PYLAUNCH_LIBC(name)                                                      \
    pylaunch::engine::Tell(__builtin_return_address(0), size, flags);        \
    return libc.Get() arguments;                                             \
  }

PASS_ON(long, getrandom, (void* to, unsigned long size, unsigned flags), (to, size, flags), size,
        flags)
PASS_ON(int, getentropy, (void* to, unsigned long size), (to, size), size, 0)
