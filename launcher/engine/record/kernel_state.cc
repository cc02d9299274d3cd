#include "launcher/engine/record/kernel_state.h"

#include <asm/prctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <memory>
#include <string_view>

#include "launcher/engine/base/told_mark.h"

namespace pylaunch::engine {
namespace {

using Parts = std::set<ProcessState::Part>;

std::string FirstLines(const char* path) {
  std::unique_ptr<FILE, int (*)(FILE*)> file(fopen(path, "re"), fclose);
  char text[1024];
  return std::string(text, file ? fread(text, 1, sizeof text, file.get()) : 0);
}

void AddFolder(Parts* parts) {
  char buffer[PATH_MAX];
  const char* folder = getcwd(buffer, sizeof buffer);
  parts->insert({"changed the working directory", folder == nullptr ? "" : folder});
}

void AddLimits(Parts* parts) {
  std::string text;
  for (int which = 0; which < static_cast<int>(RLIM_NLIMITS); ++which) {
    rlimit limit = {};
    getrlimit(static_cast<__rlimit_resource>(which), &limit);
    text += std::to_string(limit.rlim_cur) + "/" + std::to_string(limit.rlim_max) + " ";
  }
  parts->insert({"changed a resource limit", std::move(text)});
}

// Of /proc/self/status (proc(5)).
struct StatusField {
  std::string_view name;
  const char* words;
};
constexpr StatusField kStatusFields[] = {
    {"Umask:", "changed the umask"},  // There is no other way to read it without setting it.
    {"Uid:", "changed the user"},
    {"Gid:", "changed the group"},
    {"Groups:", "changed the supplementary groups"},
    {"CapInh:", "changed capabilities"},
    {"CapPrm:", "changed capabilities"},
    {"CapEff:", "changed capabilities"},
    {"CapBnd:", "changed capabilities"},
    {"CapAmb:", "changed capabilities"},
    {"NoNewPrivs:", "forbade new privileges"},
    {"Seccomp:", "filters system calls"},
    {"Seccomp_filters:", "filters system calls"},
    {"Speculation_Store_Bypass:", "changed how its processor may speculate"},
    {"SpeculationIndirectBranch:", "changed how its processor may speculate"},
    {"untag_mask:", "changed which bits of addresses count"},
    {"x86_Thread_features:", "asked for a shadow stack"},
    {"VmLck:", "locked memory"},  // mlock(2): a forked child has none of it locked.
    {"SigPnd:", "left a signal pending"},
    {"ShdPnd:", "left a signal pending"},
    {"Cpus_allowed:", "changed the processor affinity"},
    {"Mems_allowed:", "changed the memory nodes allowed"},
};

void AddStatus(Parts* parts) {
  std::unique_ptr<FILE, int (*)(FILE*)> status(fopen("/proc/self/status", "re"), fclose);
  char line[1024];
  while (status && fgets(line, sizeof line, status.get()) != nullptr) {
    const std::string_view text = line;
    for (const StatusField& field : kStatusFields) {
      if (text.starts_with(field.name)) parts->insert({field.words, line});
    }
  }
}

void AddScheduling(Parts* parts) {
  // sched_setattr(2): 32 bits each size, policy, two of flags, nice, priority; what follows, fair
  // scheduling changes by itself. glibc declares it from 2.41 on.
  constexpr size_t kStable = 24;
  char attributes[56] = {};
  if (syscall(SYS_sched_getattr, 0, attributes, sizeof attributes, 0) == 0) {
    parts->insert({"changed its scheduling", std::string(attributes, kStable)});
  }
  constexpr int kProcess = 1;  // IOPRIO_WHO_PROCESS (linux/ioprio.h)
  parts->insert({"changed its priority for input and output",
                 std::to_string(syscall(SYS_ioprio_get, kProcess, 0))});
  parts->insert({"changed its oom_score_adj", FirstLines("/proc/self/oom_score_adj")});
}

void AddSession(Parts* parts) {
  parts->insert({"changed its process group or session",
                 std::to_string(getpgrp()) + " " + std::to_string(getsid(0))});
}

// prctl(2). Nothing where the kernel knows no such option. Not PR_GET_IO_FLUSHER, for which rights
// are needed that few have, as for what it tells of.
void AddControls(Parts* parts) {
  struct Control {
    int option;
    const char* words;
  };
  constexpr int kGetMdwe = 66,
                kGetMemoryMerge = 68;  // PR_GET_MDWE, PR_GET_MEMORY_MERGE: Linux 6.4.
  for (const auto& [option, words] :
       {Control{PR_GET_DUMPABLE, "changed whether its memory may be dumped"},
        Control{PR_GET_THP_DISABLE, "changed its use of huge pages"},
        Control{PR_GET_SECUREBITS, "changed its secure bits"},
        Control{PR_MCE_KILL_GET, "changed what memory failures do"},
        Control{kGetMdwe, "forbade itself new code"},
        Control{kGetMemoryMerge, "asked for its memory to be merged"}}) {
    const int value = prctl(option, 0, 0, 0, 0);
    if (value >= 0) parts->insert({words, std::to_string(value)});
  }
  for (const auto& [option, words] :
       {Control{PR_GET_PDEATHSIG, "asked for a signal at its parent's end"},
        Control{PR_GET_TSC, "changed whether the time stamp counter may be read"},
        Control{PR_GET_CHILD_SUBREAPER, "became a reaper of orphans"}}) {
    int value = 0;
    if (prctl(option, &value, 0, 0, 0) == 0) parts->insert({words, std::to_string(value)});
  }
  parts->insert({"changed its timer slack", std::to_string(TimerSlackWithoutMark())});
  parts->insert({"changed its personality", std::to_string(personality(0xffffffff))});
}

// arch_prctl(2). Not modify_ldt(2), for which lists of what a service may call have no place
// (systemd's @system-service), and kill.
void AddArchitecture(Parts* parts) {
  uint64_t base = 0;
  if (syscall(SYS_arch_prctl, ARCH_GET_GS, &base) == 0) {
    parts->insert({"set the GS base", std::to_string(base)});
  }
  parts->insert({"changed whether it may ask for the processor's kind",
                 std::to_string(syscall(SYS_arch_prctl, ARCH_GET_CPUID, 0))});
}

// namespaces(7), cgroups(7), chroot(2), core(5).
void AddPlace(Parts* parts) {
  for (const char* kind :
       {"cgroup", "ipc", "mnt", "net", "pid_for_children", "time_for_children", "user", "uts"}) {
    const std::string name = kind;
    parts->insert({"changed its " + name + " namespace", LinkAt("/proc/self/ns/" + name)});
  }
  parts->insert({"changed its root directory", LinkAt("/proc/self/root")});
  parts->insert({"moved to another control group", FirstLines("/proc/self/cgroup")});
  parts->insert({"changed what a core dump holds", FirstLines("/proc/self/coredump_filter")});
}

// Those of setitimer(2), and of timer_create(2) where the kernel tells (CONFIG_CHECKPOINT_RESTORE).
void AddTimers(Parts* parts) {
  bool any = false;
  for (const auto which : {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF}) {
    itimerval timer = {};
    getitimer(which, &timer);
    any = any || timer.it_value.tv_sec != 0 || timer.it_value.tv_usec != 0;
  }
  std::unique_ptr<FILE, int (*)(FILE*)> timers(fopen("/proc/self/timers", "re"), fclose);
  if (any || (timers && fgetc(timers.get()) != EOF)) parts->insert({"left a timer running", ""});
}

void AddChildren(Parts* parts) {
  siginfo_t info;
  const bool any = waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
  if (any) parts->insert({"left a child process", ""});
}

}  // namespace

void AddKernelState(Parts* parts) {
  for (const auto add : {AddFolder, AddLimits, AddStatus, AddScheduling, AddSession, AddControls,
                         AddArchitecture, AddPlace, AddTimers, AddChildren}) {
    add(parts);
  }
}

std::string LinkAt(const std::string& path) {
  char buffer[PATH_MAX];
  const ssize_t n = readlink(path.c_str(), buffer, sizeof buffer);
  return std::string(buffer, n > 0 ? static_cast<size_t>(n) : 0);
}

}  // namespace pylaunch::engine
