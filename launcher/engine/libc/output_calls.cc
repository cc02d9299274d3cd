#include "launcher/engine/libc/output_calls.h"

#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "launcher/engine/libc/libc_calls.h"

namespace pylaunch::engine {
namespace {

using Write = ssize_t (*)(int, const void*, size_t);
using Exec = int (*)(const char*, char* const*);
using ExecWith = int (*)(const char*, char* const*, char* const*);

// The functions below are called with nothing of ours.
constinit struct {
  std::atomic<const OutputListener*> listener = nullptr;
  LibcFunction<Write> libc_write{"write"};
  LibcFunction<Write> libc_write_too{"__write"};
  LibcFunction<ssize_t (*)(int, const iovec*, int)> libc_writev{"writev"};
  LibcFunction<Exec> libc_execv{"execv"};
  LibcFunction<Exec> libc_execvp{"execvp"};
  LibcFunction<ExecWith> libc_execvpe{"execvpe"};
} g;

// All of them may be called in a signal handler, and by a child of vfork(2).
__attribute__((constructor)) void FindOutputCalls() {
  g.libc_write.Find();
  g.libc_write_too.Find();
  g.libc_writev.Find();
  g.libc_execv.Find();
  g.libc_execvp.Find();
  g.libc_execvpe.Find();
}

// Calls `write`, and tells of it. `parts`: what is written, at least as much as `write` returns.
template <typename Write>
ssize_t Told(const void* caller, int fd, const iovec* parts, const Write& write) {
  const OutputListener* listener = g.listener.load(std::memory_order_relaxed);
  if (listener == nullptr) return write();
  const int before = errno;
  listener->writing();
  errno = before;
  const ssize_t written = write();
  const int error = errno;
  for (size_t rest = written > 0 ? static_cast<size_t>(written) : 0; rest > 0; ++parts) {
    const size_t size = parts->iov_len < rest ? parts->iov_len : rest;
    if (size > 0) listener->written(fd, parts->iov_base, size, IsOurs(caller));
    rest -= size;
  }
  errno = error;
  return written;
}

// Where nobody listens, a write costs next to nothing more.
bool IsHeard() { return g.listener.load(std::memory_order_relaxed) != nullptr; }

[[gnu::noinline]] ssize_t WriteBy(Write write, const void* caller, int fd, const void* from,
                                  size_t size) {
  const iovec part = {const_cast<void*>(from), size};
  return Told(caller, fd, &part, [&] { return write(fd, from, size); });
}

[[gnu::always_inline]] inline ssize_t PassOn(Write write, const void* caller, int fd,
                                             const void* from, size_t size) {
  if (!IsHeard()) [[likely]]
    return write(fd, from, size);
  return WriteBy(write, caller, fd, from, size);
}

}  // namespace

void ListenToOutput(const OutputListener* listener) { g.listener = listener; }

void TellExecuting(bool here) {
  const OutputListener* listener = g.listener.load(std::memory_order_relaxed);
  if (listener == nullptr) return;
  const int error = errno;
  listener->executing(here);
  errno = error;
}

void TellRead(const void* caller, int fd, long size) {
  const OutputListener* listener = g.listener.load(std::memory_order_relaxed);
  if (listener == nullptr || size <= 0 || IsOurs(caller)) return;
  const int error = errno;
  listener->read(fd, static_cast<size_t>(size));
  errno = error;
}

int64_t TellWaiting() {
  const OutputListener* listener = g.listener.load(std::memory_order_relaxed);
  return listener == nullptr ? 0 : listener->waiting();
}

void TellReaped(int64_t before) {
  if (const OutputListener* listener = g.listener.load(std::memory_order_relaxed)) {
    listener->reaped(before);
  }
}

}  // namespace pylaunch::engine

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED ssize_t write(int fd, const void* from, size_t size) {
  namespace engine = pylaunch::engine;
  return engine::PassOn(engine::g.libc_write.Get(), __builtin_return_address(0), fd, from, size);
}

EXPORTED ssize_t __write(int fd, const void* from, size_t size) {
  namespace engine = pylaunch::engine;
  return engine::PassOn(engine::g.libc_write_too.Get(), __builtin_return_address(0), fd, from,
                        size);
}

EXPORTED ssize_t writev(int fd, const iovec* parts, int count) {
  namespace engine = pylaunch::engine;
  return engine::Told(__builtin_return_address(0), fd, parts,
                      [&] { return engine::g.libc_writev.Get()(fd, parts, count); });
}

EXPORTED int execv(const char* path, char* const argv[]) noexcept {
  pylaunch::engine::TellExecuting(/*here=*/true);
  return pylaunch::engine::g.libc_execv.Get()(path, argv);
}

EXPORTED int execvp(const char* file, char* const argv[]) noexcept {
  pylaunch::engine::TellExecuting(/*here=*/true);
  return pylaunch::engine::g.libc_execvp.Get()(file, argv);
}

EXPORTED int execvpe(const char* file, char* const argv[], char* const envp[]) noexcept {
  pylaunch::engine::TellExecuting(/*here=*/true);
  return pylaunch::engine::g.libc_execvpe.Get()(file, argv, envp);
}

EXPORTED int system(const char* command) {
  using Function = int (*)(const char*);
  PYLAUNCH_LIBC(system)
  if (command != nullptr) pylaunch::engine::TellExecuting(/*here=*/false);
  const int64_t before = pylaunch::engine::TellWaiting();
  const int status = libc.Get()(command);
  pylaunch::engine::TellReaped(before);
  return status;
}

EXPORTED int pclose(FILE* stream) {
  using Function = int (*)(FILE*);
  PYLAUNCH_LIBC(pclose)
  const int64_t before = pylaunch::engine::TellWaiting();
  const int status = libc.Get()(stream);
  pylaunch::engine::TellReaped(before);
  return status;
}

EXPORTED FILE* popen(const char* command, const char* mode) {
  using Function = FILE* (*)(const char*, const char*);
  PYLAUNCH_LIBC(popen)
  pylaunch::engine::TellExecuting(/*here=*/false);
  return libc.Get()(command, mode);
}
