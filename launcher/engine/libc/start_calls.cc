#include "launcher/engine/libc/start_calls.h"

#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>

#include "launcher/engine/base/interpreter_object.h"
#include "launcher/engine/libc/host_name_libraries.h"
#include "launcher/engine/libc/libc_calls.h"
#include "launcher/engine/libc/output_calls.h"

struct passwd;
struct utsname;

namespace pylaunch::engine {
namespace {

// The functions below are called with nothing of ours.
std::atomic<StartListener> g_listener = nullptr;

void Tell(const void* caller, StartCall call, int fd) {
  StartListener listener = g_listener.load(std::memory_order_relaxed);
  if (listener == nullptr || IsOurs(caller)) return;
  const int error = errno;
  listener(call, fd);
  errno = error;
}

}  // namespace

void ListenToStartCalls(StartListener listener) { g_listener = listener; }

// Where nobody listens, nobody need know whose call it is.
static bool IsCountedUname(const void* caller) {
  return g_listener.load(std::memory_order_relaxed) != nullptr && !IsInterpreters(caller) &&
         !KeepsNoHostName(caller);
}

// unistd.h, _SC_NPROCESSORS_CONF and _SC_NPROCESSORS_ONLN.
static bool CountsProcessors(int name) { return name == 83 || name == 84; }
static constexpr long kGetAffinity = 204;  // sched_getaffinity(2)'s number on x86_64.

}  // namespace pylaunch::engine

#define PASS_ON(result, name, parameters, arguments, when, call, fd)                              \
  extern "C" __attribute__((visibility("default"))) result name parameters {                      \
    using Function = result(*) parameters;                                                        \
    PYLAUNCH_LIBC(name)                                                                           \
    if (when) {                                                                                   \
      pylaunch::engine::Tell(__builtin_return_address(0), pylaunch::engine::StartCall::call, fd); \
    }                                                                                             \
    return libc.Get() arguments;                                                                  \
  }

PASS_ON(int, isatty, (int fd), (fd), fd >= 0 && fd <= 2, kIsTerminal, fd)
PASS_ON(char*, getcwd, (char* to, unsigned long size), (to, size), true, kWorkingDirectory, -1)
PASS_ON(char*, __getcwd_chk, (char* to, unsigned long size, unsigned long room), (to, size, room),
        true, kWorkingDirectory, -1)
PASS_ON(char*, get_current_dir_name, (), (), true, kWorkingDirectory, -1)
PASS_ON(long, __read_chk, (int fd, void* to, unsigned long size, unsigned long room),
        (fd, to, size, room), fd == 0, kReadInput, fd)
PASS_ON(int, gethostname, (char* to, unsigned long size), (to, size), true, kHostName, -1)
PASS_ON(int, __gethostname_chk, (char* to, unsigned long size, unsigned long room),
        (to, size, room), true, kHostName, -1)
PASS_ON(int, getdomainname, (char* to, unsigned long size), (to, size), true, kHostName, -1)
PASS_ON(int, __getdomainname_chk, (char* to, unsigned long size, unsigned long room),
        (to, size, room), true, kHostName, -1)
PASS_ON(int, uname, (struct utsname * to), (to),
        pylaunch::engine::IsCountedUname(__builtin_return_address(0)), kHostName, -1)

PASS_ON(unsigned, getuid, (), (), true, kUser, -1)
PASS_ON(unsigned, geteuid, (), (), true, kUser, -1)
PASS_ON(unsigned, getgid, (), (), true, kUser, -1)
PASS_ON(unsigned, getegid, (), (), true, kUser, -1)
PASS_ON(int, getresuid, (unsigned* real, unsigned* effective, unsigned* saved),
        (real, effective, saved), true, kUser, -1)
PASS_ON(int, getresgid, (unsigned* real, unsigned* effective, unsigned* saved),
        (real, effective, saved), true, kUser, -1)
PASS_ON(int, getgroups, (int size, unsigned* to), (size, to), true, kUser, -1)
PASS_ON(char*, getlogin, (), (), true, kUserEntry, -1)
PASS_ON(int, getlogin_r, (char* to, unsigned long size), (to, size), true, kUserEntry, -1)
PASS_ON(struct passwd*, getpwuid, (unsigned user), (user), true, kUserEntry, -1)
PASS_ON(int, getpwuid_r,
        (unsigned user, struct passwd* to, char* room, unsigned long size, struct passwd** found),
        (user, to, room, size, found), true, kUserEntry, -1)

PASS_ON(long, sysconf, (int name), (name), pylaunch::engine::CountsProcessors(name), kProcessors,
        -1)
PASS_ON(int, get_nprocs, (), (), true, kProcessors, -1)
PASS_ON(int, get_nprocs_conf, (), (), true, kProcessors, -1)
PASS_ON(int, sched_getaffinity, (int process, unsigned long size, cpu_set_t* set),
        (process, size, set), true, kProcessors, -1)
PASS_ON(int, pthread_getaffinity_np, (unsigned long thread, unsigned long size, cpu_set_t* set),
        (thread, size, set), true, kProcessors, -1)

// LLVM's OpenMP asks so (z_Linux_util.cpp). No call has more than six arguments; what the caller
// has not given is read and not used.
extern "C" __attribute__((visibility("default"))) long syscall(long number, ...) noexcept {
  using Function = long (*)(long, ...);
  PYLAUNCH_LIBC(syscall)
  if (number == pylaunch::engine::kGetAffinity) {
    pylaunch::engine::Tell(__builtin_return_address(0), pylaunch::engine::StartCall::kProcessors,
                           -1);
  }
  va_list rest;
  va_start(rest, number);
  long arguments[6];
  for (long& argument : arguments) argument = va_arg(rest, long);
  va_end(rest);
  return libc.Get()(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                    arguments[5]);
}

extern "C" __attribute__((visibility("default"))) long read(int fd, void* to, unsigned long size) {
  using Function = long (*)(int, void*, unsigned long);
  PYLAUNCH_LIBC(read)
  // Who wants to know what was read wants to know what was asked of the start, too.
  if (pylaunch::engine::g_listener.load(std::memory_order_relaxed) == nullptr) [[likely]] {
    return libc.Get()(fd, to, size);
  }
  const void* caller = __builtin_return_address(0);
  if (fd == 0) pylaunch::engine::Tell(caller, pylaunch::engine::StartCall::kReadInput, fd);
  const long got = libc.Get()(fd, to, size);
  pylaunch::engine::TellRead(caller, fd, got);
  return got;
}
