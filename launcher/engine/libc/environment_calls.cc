#include "launcher/engine/libc/environment_calls.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <optional>
#include <string>
#include <vector>

#include "launcher/engine/libc/libc_calls.h"

extern "C" char** environ;

namespace pylaunch::engine {
namespace {

using Get = char* (*)(const char*);
using Set = int (*)(const char*, const char*, int);
using Unset = int (*)(const char*);
using Put = int (*)(char*);
using Clear = int (*)();

char* FirstGetenv(const char* name);
char* FirstSecureGetenv(const char* name);

// The functions below are called with nothing of ours: first by constructors of libraries, before
// any code of ours has run.
constinit struct {
  // What getenv and secure_getenv jump to: libc's, or ours that tells a listener.
  std::atomic<Get> getenv = FirstGetenv;
  std::atomic<Get> secure_getenv = FirstSecureGetenv;
  std::atomic<ReadListener> on_read = nullptr;
  std::atomic<ChangeListener> on_change = nullptr;
  std::atomic<bool> cleared = false;
  LibcFunction<Get> libc_getenv{"getenv"};
  LibcFunction<Get> libc_secure_getenv{"secure_getenv"};
} g;

char* FirstGetenv(const char* name) {
  Get first = FirstGetenv;
  g.getenv.compare_exchange_strong(first, g.libc_getenv.Get());
  return g.libc_getenv.Get()(name);
}

char* FirstSecureGetenv(const char* name) {
  Get first = FirstSecureGetenv;
  g.secure_getenv.compare_exchange_strong(first, g.libc_secure_getenv.Get());
  return g.libc_secure_getenv.Get()(name);
}

char* Told(const char* name, char* value) {
  const int error = errno;
  if (ReadListener listener = g.on_read.load()) listener(name, value);
  errno = error;
  return value;
}

char* ToldGetenv(const char* name) { return Told(name, g.libc_getenv.Get()(name)); }
char* ToldSecureGetenv(const char* name) { return Told(name, g.libc_secure_getenv.Get()(name)); }

// Makes the change `make` and tells of it.
template <typename Make>
int Change(const char* name, const void* caller, Make make) {
  const ChangeListener listener = g.on_change.load(std::memory_order_relaxed);
  if (listener == nullptr || name == nullptr) return make();
  const char* old = g.libc_getenv.Get()(name);
  const std::optional<std::string> before = old == nullptr ? std::nullopt : std::optional(old);
  const int result = make();
  if (result != 0) return result;
  const int error = errno;
  listener({name, before ? before->c_str() : nullptr, g.libc_getenv.Get()(name), caller});
  errno = error;
  return result;
}

// Each variable is one change.
template <typename Make>
int ClearAll(const void* caller, Make make) {
  const ChangeListener listener = g.on_change.load(std::memory_order_relaxed);
  g.cleared = true;
  if (listener == nullptr) return make();
  std::vector<std::string> before;
  for (char** e = environ; e != nullptr && *e != nullptr; ++e) before.emplace_back(*e);
  const int result = make();
  if (result != 0) return result;
  const int error = errno;
  for (std::string& entry : before) {
    const size_t equals = entry.find('=');
    if (equals == entry.npos) continue;
    entry[equals] = '\0';
    listener({entry.c_str(), entry.c_str() + equals + 1, nullptr, caller});
  }
  errno = error;
  return result;
}

}  // namespace

void ListenToReads(ReadListener listener) {
  g.on_read = listener;
  g.getenv = listener == nullptr ? g.libc_getenv.Get() : ToldGetenv;
  g.secure_getenv = listener == nullptr ? g.libc_secure_getenv.Get() : ToldSecureGetenv;
}

void ListenToChanges(ChangeListener listener) { g.on_change = listener; }

bool WasEnvironmentCleared() { return g.cleared; }

}  // namespace pylaunch::engine

// Declared as in stdlib.h, but without including it: its attributes are not ours to repeat.
extern "C" {
__attribute__((visibility("default"))) char* getenv(const char* name) noexcept {
  return pylaunch::engine::g.getenv.load(std::memory_order_relaxed)(name);
}

__attribute__((visibility("default"))) char* secure_getenv(const char* name) noexcept {
  return pylaunch::engine::g.secure_getenv.load(std::memory_order_relaxed)(name);
}

__attribute__((visibility("default"))) int setenv(const char* name, const char* value,
                                                  int overwrite) noexcept {
  using Function = pylaunch::engine::Set;
  PYLAUNCH_LIBC(setenv)
  return pylaunch::engine::Change(name, __builtin_return_address(0),
                                  [&] { return libc.Get()(name, value, overwrite); });
}

__attribute__((visibility("default"))) int unsetenv(const char* name) noexcept {
  using Function = pylaunch::engine::Unset;
  PYLAUNCH_LIBC(unsetenv)
  return pylaunch::engine::Change(name, __builtin_return_address(0),
                                  [&] { return libc.Get()(name); });
}

__attribute__((visibility("default"))) int putenv(char* string) noexcept {
  using Function = pylaunch::engine::Put;
  PYLAUNCH_LIBC(putenv)
  std::string name = string;
  name.resize(std::min(name.find('='), name.size()));
  return pylaunch::engine::Change(name.c_str(), __builtin_return_address(0),
                                  [&] { return libc.Get()(string); });
}

__attribute__((visibility("default"))) int clearenv() noexcept {
  using Function = pylaunch::engine::Clear;
  PYLAUNCH_LIBC(clearenv)
  return pylaunch::engine::ClearAll(__builtin_return_address(0), [&] { return libc.Get()(); });
}
}
