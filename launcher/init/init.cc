#include "launcher/init/init.h"

#include <malloc.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "launcher/init/ending.h"
#include "launcher/init/terminal.h"

namespace pylaunch {
namespace {

// What this process was given, for the program to find.
struct Inherited {
  sigset_t mask;
  struct sigaction child;
};

class Init {
 public:
  Init(pid_t program, bool shares_group) : program_(program), shares_group_(shares_group) {}
  // Until the program ends; its exit code.
  int Run();

 private:
  void PassOn(const siginfo_t& info);
  // Takes what has ended. The exit code, once that was the program.
  std::optional<int> Reap();
  // As the program was, by the terminal's signal.
  void Stop(int signal);

  const pid_t program_;
  const bool shares_group_;
  bool resumed_ = false;  // A SIGCONT has reached the program, of which we have not heard yet.
};

// What a terminal sends to a whole group; other signals of the kernel are for one process.
bool IsOfTerminal(int signal) {
  constexpr int kSignals[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGTSTP,
                              SIGTTIN, SIGTTOU, SIGCONT, SIGWINCH};
  return std::ranges::count(kSignals, signal) > 0;
}

void Init::PassOn(const siginfo_t& info) {
  const bool from_kernel = info.si_code > 0;
  if (from_kernel && info.si_signo == SIGCHLD) return;
  if (from_kernel && shares_group_ && IsOfTerminal(info.si_signo)) return;
  // To its own group, then.
  if (shares_group_ && info.si_pid == program_) return;
  if (info.si_signo == SIGCONT && shares_group_ && std::exchange(resumed_, false)) return;
  if (info.si_code == SI_QUEUE) {
    sigqueue(program_, info.si_signo, info.si_value);
  } else {
    kill(program_, info.si_signo);
  }
}

std::optional<int> Init::Reap() {
  std::optional<int> code;
  int status = 0;
  while (true) {
    const pid_t pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED);
    if (pid <= 0) return code;
    if (pid != program_) continue;
    if (WIFEXITED(status) || WIFSIGNALED(status)) code = Ending::Of(status).exit_code();
    if (WIFCONTINUED(status)) resumed_ = true;
    if (!WIFSTOPPED(status)) continue;
    resumed_ = false;
    Stop(WSTOPSIG(status));
  }
}

// Whoever started us, a shell, minds this process, not the program.
void Init::Stop(int signal) {
  if (!shares_group_ || (signal != SIGTSTP && signal != SIGTTIN && signal != SIGTTOU)) return;
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, signal);
  // The kernel decides: it stops neither process 1 nor a group that no shell minds.
  kill(getpid(), signal);
  sigprocmask(SIG_UNBLOCK, &only, nullptr);
  sigprocmask(SIG_BLOCK, &only, nullptr);
}

// The linker's: the program's code, between the two.
extern "C" const char __executable_start[], etext[];

// Whoever waits for the end of a pipe, or wants a folder out of use, waits for the program only.
void LetGo() {
  close_range(0, ~0U, 0);
  if (chdir("/") != 0) return;  // Then it is held, as it would be by the program.
}

// What is left is what waiting takes: the code is read anew, by few pages.
void LetGoOfMemory() {
  malloc_trim(0);
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(__executable_start) & ~(page - 1);
  const auto end = reinterpret_cast<uintptr_t>(etext) & ~(page - 1);
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

int Init::Run() {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  for (const int stop : {SIGTSTP, SIGTTIN, SIGTTOU}) sigaction(stop, &action, nullptr);
  LetGo();
  LetGoOfMemory();
  sigset_t all;
  sigprocmask(SIG_SETMASK, nullptr, &all);
  while (true) {
    siginfo_t info;
    const int signal = sigwaitinfo(&all, &info);
    if (const std::optional<int> code = Reap()) return *code;
    if (signal > 0) PassOn(info);
  }
}

// In the process that is to be the program.
void BecomeProgram(const Inherited& inherited, const Terminal& terminal, bool leads, pid_t init) {
  if (leads && setsid() >= 0) terminal.Give();
  // Nobody outlives process 1 anyhow.
  if (init != 1) prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != init) _exit(EXIT_FAILURE);
  sigaction(SIGCHLD, &inherited.child, nullptr);
  sigprocmask(SIG_SETMASK, &inherited.mask, nullptr);
}

}  // namespace

InitRole BecomeInit(InitMode mode, bool explain) {
  const pid_t self = getpid();
  if (mode == InitMode::kNever || (mode == InitMode::kAsProcess1 && self != 1)) return {};
  // Also what a process does wrong by itself: the kernel does not ask for its mask then.
  sigset_t all;
  sigfillset(&all);
  Inherited inherited;
  sigprocmask(SIG_SETMASK, &all, &inherited.mask);
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;  // Of ignored children nobody learns how they ended (wait(2)).
  sigaction(SIGCHLD, &action, &inherited.child);
  const bool leads = getsid(0) == self;
  const Terminal terminal;
  const pid_t program = fork();
  if (program > 0) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    return {Init(program, !leads).Run(), false};
  }
  const int error = errno;
  if (program == 0) {
    BecomeProgram(inherited, terminal, leads, self);
    if (explain) {
      std::fprintf(stderr, "pylaunch: explain: init: process %d, which runs the program as %d\n",
                   self, getpid());
    }
    return {std::nullopt, self == 1};
  }
  terminal.Give();
  sigaction(SIGCHLD, &inherited.child, nullptr);
  sigprocmask(SIG_SETMASK, &inherited.mask, nullptr);
  std::fprintf(stderr, "pylaunch: warning: no init: fork: %s\n", std::strerror(error));
  return {};
}

}  // namespace pylaunch
