#include "launcher/engine/libc/exit_calls.h"

#include <atomic>

#include "launcher/engine/libc/libc_calls.h"

extern "C" __attribute__((visibility("hidden"))) void* __dso_handle;

namespace pylaunch::engine {
namespace {

using StatusFunction = void (*)(int, void*);

std::atomic<ExitListener> g_listener = nullptr;
std::atomic<bool> g_all_told = true;

constinit LibcFunction<int (*)(ExitFunction, void*, void*)> g_cxa_atexit("__cxa_atexit");
constinit LibcFunction<int (*)(StatusFunction, void*)> g_on_exit("on_exit");

}  // namespace

void ListenToExitCalls(ExitListener listener) { g_listener = listener; }

bool AllExitCallsTold() { return g_all_told; }

int RegisterForExit(ExitFunction function, void* argument, void* library) {
  return g_cxa_atexit.Get()(function, argument, library);
}

int RegisterForExit(StatusFunction function) { return g_on_exit.Get()(function, nullptr); }

}  // namespace pylaunch::engine

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED int __cxa_atexit(void (*function)(void*), void* argument, void* library) noexcept {
  namespace engine = pylaunch::engine;
  if (const auto listener = engine::g_listener.load()) return listener(function, argument, library);
  if (library != &__dso_handle) engine::g_all_told = false;
  return engine::RegisterForExit(function, argument, library);
}

EXPORTED int on_exit(void (*function)(int, void*), void* argument) noexcept {
  pylaunch::engine::g_all_told = false;
  return pylaunch::engine::g_on_exit.Get()(function, argument);
}
