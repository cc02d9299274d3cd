#include "cache/guarded_copy.h"

#include <setjmp.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <mutex>

namespace pylaunch::cache {
namespace {

struct Copying {
  const char* begin;
  const char* end;
  sigjmp_buf out;
};

// Initial-exec, so that a handler in a thread that never came here makes no call to allocate it.
[[gnu::tls_model("initial-exec")]] thread_local Copying* t_copying = nullptr;

// A signal handler is called with nothing of ours, and the process has one for SIGBUS.
constinit struct {
  struct sigaction before = {};  // While a copy runs: what the program had.
  std::mutex one_at_a_time;      // Of all copies, as `before` is kept once.
} g;

void OnBus(int, siginfo_t* info, void*) {
  const char* at = static_cast<const char*>(info->si_addr);
  if (info->si_code > 0 && t_copying != nullptr && at >= t_copying->begin && at < t_copying->end) {
    siglongjmp(t_copying->out, 1);
  }
  // The program's: a fault happens again when this returns, a sent signal must be sent again.
  sigaction(SIGBUS, &g.before, nullptr);
  if (info->si_code <= 0) kill(getpid(), SIGBUS);
}

// Not inlined, so that what sigsetjmp may clobber is nothing but these arguments.
[[gnu::noinline]] bool Copy(Copying* copying, char* out) {
  if (sigsetjmp(copying->out, /*savemask=*/0) != 0) return false;
  t_copying = copying;
  std::atomic_signal_fence(std::memory_order_seq_cst);  // The handler must find it.
  std::memcpy(out, copying->begin, static_cast<size_t>(copying->end - copying->begin));
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return true;
}

}  // namespace

bool GuardedCopy(const char* from, size_t size, char* out) {
  const std::lock_guard<std::mutex> lock(g.one_at_a_time);
  struct sigaction ours = {};
  ours.sa_sigaction = OnBus;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigset_t bus, mask;
  sigemptyset(&bus);
  sigaddset(&bus, SIGBUS);
  // A blocked SIGBUS that is the thread's own fault kills the process.
  pthread_sigmask(SIG_UNBLOCK, &bus, &mask);
  sigaction(SIGBUS, &ours, &g.before);
  Copying copying = {from, from + size, {}};
  const bool done = Copy(&copying, out);
  t_copying = nullptr;
  sigaction(SIGBUS, &g.before, nullptr);
  // siglongjmp left the handler's mask in place.
  if (!done || sigismember(&mask, SIGBUS) == 1) pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  return done;
}

}  // namespace pylaunch::cache
