#include "launcher/workers/guard.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "cache/descriptor.h"
#include "launcher/init/ending.h"
#include "launcher/workers/process_tree.h"

namespace pylaunch {
namespace {

// Sent for what a process itself does wrong (signal(7)).
constexpr int kOwnFaults[] = {SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS};

// In the process that was started: until the supervisor ends.
int Wait(pid_t supervisor, const sigset_t& all) {
  while (true) {
    siginfo_t info = {};
    const int signal = sigwaitinfo(&all, &info);
    if (signal == SIGCHLD) {
      int status = 0;
      if (waitpid(supervisor, &status, WNOHANG) != supervisor) continue;
      const Ending ending = Ending::Of(status);
      if (ending.signal == 0) return ending.code;
      KillAllBelow();
      std::fprintf(stderr,
                   "pylaunch: error: what supervises the workers was killed by signal %d\n"
                   "  hint:  the workers have been killed, too\n",
                   ending.signal);
      return ending.exit_code();
    }
    if (signal <= 0 || !IsPassedOn(signal)) continue;
    sigval sender = {};
    sender.sival_int =
        static_cast<int>(info.si_code == SI_KERNEL ? Sender::kTerminal : Sender::kSomebody);
    sigqueue(supervisor, signal, sender);
    // The terminal's, which has us in its sight: the shell waits for it.
    if (signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU) kill(getpid(), SIGSTOP);
  }
}

}  // namespace

bool IsPassedOn(int signal) {
  constexpr int kOthers[] = {SIGKILL, SIGSTOP, SIGCHLD, SIGPIPE};
  if (std::ranges::count(kOwnFaults, signal) + std::ranges::count(kOthers, signal) > 0)
    return false;
  struct sigaction action = {};
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler != SIG_IGN;
}

void RestoreSignals(const Guard& guard) {
  sigaction(SIGCHLD, &guard.child_before, nullptr);
  sigaction(SIGPIPE, &guard.pipe_before, nullptr);
  sigprocmask(SIG_SETMASK, &guard.mask_before, nullptr);
}

std::optional<int> BecomeSupervisor(Guard* guard) {
  sigset_t all;
  sigfillset(&all);
  for (const int own : kOwnFaults) sigdelset(&all, own);
  sigprocmask(SIG_SETMASK, &all, &guard->mask_before);
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;  // Of ignored children nobody learns how they ended (wait(2)).
  sigaction(SIGCHLD, &action, &guard->child_before);
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, &guard->pipe_before);
  guard->started_group = getpgrp();
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  cache::Pipe alive(O_CLOEXEC);
  const pid_t supervisor = alive.reading().ok() ? fork() : -1;
  if (supervisor > 0) {
    alive.reading().Close();
    return Wait(supervisor, all);
  }
  if (supervisor < 0) return std::nullopt;
  guard->alive_fd = alive.reading().Release();
  setpgid(0, 0);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  return std::nullopt;
}

}  // namespace pylaunch
