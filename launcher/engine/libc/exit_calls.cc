#include "launcher/engine/libc/exit_calls.h"

#include <atomic>

#include "launcher/engine/libc/libc_calls.h"

extern "C" __attribute__((visibility("hidden"))) void* __dso_handle;

namespace pylaunch::engine {
namespace {

using StatusFunction = void (*)(int, void*);

// __cxa_atexit and on_exit(3) are called with nothing of ours, before any constructor of ours.
constinit struct {
  std::atomic<ExitListener> listener = nullptr;
  std::atomic<bool> all_told = true;
  LibcFunction<int (*)(ExitFunction, void*, void*)> libc_cxa_atexit{"__cxa_atexit"};
  LibcFunction<int (*)(StatusFunction, void*)> libc_on_exit{"on_exit"};
} g;

}  // namespace

void ListenToExitCalls(ExitListener listener) { g.listener = listener; }

bool AllExitCallsTold() { return g.all_told; }

int RegisterForExit(ExitFunction function, void* argument, void* library) {
  return g.libc_cxa_atexit.Get()(function, argument, library);
}

int RegisterForExit(StatusFunction function) { return g.libc_on_exit.Get()(function, nullptr); }

}  // namespace pylaunch::engine

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED int __cxa_atexit(void (*function)(void*), void* argument, void* library) noexcept {
  namespace engine = pylaunch::engine;
  if (const auto listener = engine::g.listener.load()) return listener(function, argument, library);
  if (library != &__dso_handle) engine::g.all_told = false;
  return engine::RegisterForExit(function, argument, library);
}

EXPORTED int on_exit(void (*function)(int, void*), void* argument) noexcept {
  pylaunch::engine::g.all_told = false;
  return pylaunch::engine::g.libc_on_exit.Get()(function, argument);
}
