// What the engine uses of glibc, and what the compiler's run-time support does, that is newer than
// glibc 2.28 (libc_stub.py tells why 2.28). Defined here, so that the linker asks no C library for
// it; each does what the C library's own does where that can be had.

#include <dlfcn.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>

#include "image/system_call.h"
#include "launcher/engine/libc/libc_calls.h"

namespace pylaunch::engine {
namespace {

// Also called by a child of fork(2).
constinit LibcFunction<pid_t (*)()> libc_fork{"_Fork"};
__attribute__((constructor)) void FindNewerCalls() { libc_fork.Find(); }

constexpr long kBillion = 1'000'000'000;

// `at` of `clock` as a time of CLOCK_REALTIME.
timespec InRealTime(clockid_t clock, const timespec& at) {
  timespec now, real;
  clock_gettime(clock, &now);
  clock_gettime(CLOCK_REALTIME, &real);
  real.tv_sec += at.tv_sec - now.tv_sec;
  real.tv_nsec += at.tv_nsec - now.tv_nsec;
  for (; real.tv_nsec < 0; real.tv_nsec += kBillion) --real.tv_sec;
  for (; real.tv_nsec >= kBillion; real.tv_nsec -= kBillion) ++real.tv_sec;
  return real;
}

#ifdef __x86_64__
// Where struct pthread has the thread's id (glibc 2.28 to 2.33, nptl/descr.h, private); null: not
// there.
pid_t* ThreadId() {
  constexpr size_t kOffset = 720;
  auto* id = reinterpret_cast<pid_t*>(reinterpret_cast<char*>(pthread_self()) + kOffset);
  return *id == static_cast<pid_t>(SystemCall(SYS_gettid)) ? id : nullptr;
}

// As fork(3) makes one, less handlers and locks (sysdeps/unix/sysv/linux/arch-fork.h).
pid_t ForkAlone() {
  pid_t* id = ThreadId();
  const uint64_t keeps_id = id == nullptr ? 0 : CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
  const long pid = SystemCall(SYS_clone, keeps_id | SIGCHLD, 0, 0, Address(id), 0);
  if (pid < 0) errno = static_cast<int>(-pid);
  return pid < 0 ? -1 : static_cast<pid_t>(pid);
}
#endif

}  // namespace
}  // namespace pylaunch::engine

using pylaunch::Address;
using pylaunch::SystemCall;

extern "C" {

// <sys/single_threaded.h>, glibc 2.32: false is always right.
char __libc_single_threaded = 0;

// glibc 2.33; before, an inline function of <sys/stat.h> that calls this one.
int __fxstat(int version, int fd, struct stat* state) noexcept;
int fstat(int fd, struct stat* state) noexcept { return __fxstat(1, fd, state); }
int fstat64(int fd, struct stat64* state) noexcept {
  return fstat(fd, reinterpret_cast<struct stat*>(state));
}

// glibc 2.34.
pid_t _Fork() noexcept {
  const auto libc = pylaunch::engine::libc_fork.Known();
  return libc != nullptr ? libc() : pylaunch::engine::ForkAlone();
}

// glibc 2.34. The kernel has it from 5.9 on.
int close_range(unsigned first, unsigned last, int flags) noexcept {
  const long result = SystemCall(SYS_close_range, first, last, static_cast<uint64_t>(flags));
  if (result < 0) errno = static_cast<int>(-result);
  return result < 0 ? -1 : 0;
}

// glibc 2.33. Before, numbers have 31 bits.
struct mallinfo2 mallinfo2() noexcept {
  static constinit pylaunch::engine::LibcFunction<struct mallinfo2 (*)()> libc("mallinfo2");
  if (const auto known = libc.GetIfAny()) return known();
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  const struct mallinfo old = mallinfo();
#pragma GCC diagnostic pop
  const auto size = [](int value) { return static_cast<size_t>(static_cast<unsigned>(value)); };
  return {size(old.arena),    size(old.ordblks), size(old.smblks),  size(old.hblks),
          size(old.hblkhd),   size(old.usmblks), size(old.fsmblks), size(old.uordblks),
          size(old.fordblks), size(old.keepcost)};
}

// glibc 2.30. std::condition_variable's wait with a limit, whose variable is one of CLOCK_REALTIME.
int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                           const timespec* until) {
  using Function = int (*)(pthread_cond_t*, pthread_mutex_t*, clockid_t, const timespec*);
  PYLAUNCH_LIBC(pthread_cond_clockwait);
  if (const Function known = libc.GetIfAny()) return known(condition, mutex, clock, until);
  const timespec real = pylaunch::engine::InRealTime(clock, *until);
  return pthread_cond_timedwait(condition, mutex, &real);
}

// glibc 2.35; libgcc's unwinder asks it, and for the frames alone (unwind-dw2-fde-dip.c).
int _dl_find_object(void* address, dl_find_object* result) noexcept {
  struct Search {
    uintptr_t address;
    dl_find_object* result;
  } search = {reinterpret_cast<uintptr_t>(address), result};
  const auto visit = [](dl_phdr_info* object, size_t, void* data) {
    auto* wanted = static_cast<Search*>(data);
    bool inside = false;
    void* frames = nullptr;
    for (size_t i = 0; i < object->dlpi_phnum; ++i) {
      const auto& header = object->dlpi_phdr[i];
      const uintptr_t begin = object->dlpi_addr + header.p_vaddr;
      if (header.p_type == PT_LOAD) inside |= wanted->address - begin < header.p_memsz;
      if (header.p_type == DLFO_EH_SEGMENT_TYPE) frames = reinterpret_cast<void*>(begin);
    }
    if (!inside || frames == nullptr) return 0;
    wanted->result->dlfo_eh_frame = frames;
    return 1;
  };
  return dl_iterate_phdr(visit, &search) == 1 ? 0 : -1;
}

}  // extern "C"
