#include "launcher/init/init_process.h"

#include <asm/unistd.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "image/system_call.h"
#include "launcher/init/ending.h"

namespace pylaunch {
namespace {

constexpr uint64_t kPage = 4096;

// What a terminal sends to a whole group; other signals of the kernel are for one process.
constexpr SignalSet kOfTerminal = SetOf(SIGHUP) | SetOf(SIGINT) | SetOf(SIGQUIT) | SetOf(SIGTSTP) |
                                  SetOf(SIGTTIN) | SetOf(SIGTTOU) | SetOf(SIGCONT) |
                                  SetOf(SIGWINCH);
constexpr SignalSet kStops = SetOf(SIGTSTP) | SetOf(SIGTTIN) | SetOf(SIGTTOU);

// The linker's: the program's code, between the two.
extern "C" const char __executable_start[], etext[];

// Whoever waits for the end of a pipe, or wants a folder out of use, waits for the program only.
// Where there is no way to "/", it is held, as it would be by the program.
void LetGo() {
  constexpr uint64_t kMost = 1024;  // Before Linux 5.9. Process 1 was given few.
  const bool closed = SystemCall(__NR_close_range, 0, ~0U) == 0;
  for (uint64_t fd = 0; !closed && fd < kMost; ++fd) SystemCall(__NR_close, fd);
  SystemCall(__NR_chdir, Address("/"));
}

// What is left is what waiting takes: the code is read anew, by few pages.
void LetGoOfCode() {
  const uint64_t begin = Address(__executable_start) & ~(kPage - 1);
  const uint64_t end = Address(etext) & ~(kPage - 1);
  SystemCall(__NR_madvise, begin, end - begin, MADV_DONTNEED);
}

}  // namespace

// Also what a process does wrong by itself is blocked: the kernel does not ask for its mask then.
InitProcess::InitProcess()
    : self_(SystemCall(__NR_getpid)),
      leads_(SystemCall(__NR_getsid) == self_),
      mask_(SetMask(kAllSignals)) {
  // Of ignored children nobody learns how they ended (wait(2)).
  SetAction(SIGCHLD, {}, &child_action_);
}

void InitProcess::SetAction(int signal, const Action& action, Action* before) {
  SystemCall(__NR_rt_sigaction, static_cast<uint64_t>(signal), Address(&action), Address(before),
             sizeof(SignalSet));
}

SignalSet InitProcess::SetMask(SignalSet mask) {
  SignalSet before = 0;
  SystemCall(__NR_rt_sigprocmask, SIG_SETMASK, Address(&mask), Address(&before), sizeof mask);
  return before;
}

void InitProcess::BecomeProgram() const {
  if (leads_ && SystemCall(__NR_setsid) >= 0) terminal_.Give();
  // Nobody outlives process 1 anyhow.
  if (!is_process_1()) SystemCall(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL);
  if (SystemCall(__NR_getppid) != self_) SystemCall(__NR_exit_group, EXIT_FAILURE);
  SetAction(SIGCHLD, child_action_, nullptr);
  SetMask(mask_);
}

void InitProcess::Undo() const {
  terminal_.Give();
  SetAction(SIGCHLD, child_action_, nullptr);
  SetMask(mask_);
}

void InitProcess::PassOn(const void* signal_info) {
  const siginfo_t& info = *static_cast<const siginfo_t*>(signal_info);
  const bool from_kernel = info.si_code > 0;
  const bool shares_group = !leads_;
  if (from_kernel && info.si_signo == SIGCHLD) return;
  if (from_kernel && shares_group && (SetOf(info.si_signo) & kOfTerminal) != 0) return;
  // To its own group, then.
  if (shares_group && info.si_pid == program_) return;
  if (info.si_signo == SIGCONT && shares_group && resumed_) {
    resumed_ = false;
    return;
  }
  const auto program = static_cast<uint64_t>(program_);
  const auto signal = static_cast<uint64_t>(info.si_signo);
  if (info.si_code == SI_QUEUE) {
    SystemCall(__NR_rt_sigqueueinfo, program, signal, Address(&info));
  } else {
    SystemCall(__NR_kill, program, signal);
  }
}

bool InitProcess::Reap(int* code) {
  bool ended = false;
  int status = 0;
  while (true) {
    const long pid = SystemCall(__NR_wait4, static_cast<uint64_t>(-1), Address(&status),
                                WNOHANG | WUNTRACED | WCONTINUED);
    if (pid <= 0) return ended;
    if (pid != program_) continue;
    if (WIFEXITED(status) || WIFSIGNALED(status)) {
      ended = true;
      *code = Ending::Of(status).exit_code();
    }
    if (WIFCONTINUED(status)) resumed_ = true;
    if (!WIFSTOPPED(status)) continue;
    resumed_ = false;
    Stop(WSTOPSIG(status));
  }
}

// Whoever started us, a shell, minds this process, not the program.
void InitProcess::Stop(int signal) {
  if (leads_ || (SetOf(signal) & kStops) == 0) return;
  // The kernel decides: it stops neither process 1 nor a group that no shell minds.
  SystemCall(__NR_kill, static_cast<uint64_t>(self_), static_cast<uint64_t>(signal));
  SetMask(kAllSignals & ~SetOf(signal));
  SetMask(kAllSignals);
}

int InitProcess::Run(long program) {
  program_ = program;
  SystemCall(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1);
  for (const int stop : {SIGTSTP, SIGTTIN, SIGTTOU}) SetAction(stop, {}, nullptr);
  LetGo();
  LetGoOfCode();
  while (true) {
    siginfo_t info = {};
    const long signal = SystemCall(__NR_rt_sigtimedwait, Address(&kAllSignals), Address(&info), 0,
                                   sizeof kAllSignals);
    int code = 0;
    if (Reap(&code)) return code;
    if (signal > 0) PassOn(&info);
  }
}

}  // namespace pylaunch
