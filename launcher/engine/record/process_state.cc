#include "launcher/engine/record/process_state.h"

#include <asm/prctl.h>
#include <dirent.h>
#include <stdio_ext.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <memory_resource>
#include <string_view>

#include "image/own_stack.h"
#include "image/region_map.h"
#include "launcher/engine/base/told_mark.h"
#include "launcher/engine/record/file_record.h"
#include "launcher/engine/record/random_draws.h"

namespace pylaunch::engine {
namespace {

using Part = ProcessState::Part;
using Parts = std::set<Part>;

std::string LinkAt(const std::string& path) {
  char buffer[PATH_MAX];
  const ssize_t n = readlink(path.c_str(), buffer, sizeof buffer);
  return std::string(buffer, n > 0 ? static_cast<size_t>(n) : 0);
}

std::string FirstLines(const char* path) {
  std::unique_ptr<FILE, int (*)(FILE*)> file(fopen(path, "re"), fclose);
  char text[1024];
  return std::string(text, file ? fread(text, 1, sizeof text, file.get()) : 0);
}

// The names in a folder of /proc, which are numbers. `own`: the descriptor that it was read by.
std::set<int> Numbers(const char* folder, int* own) {
  std::set<int> found;
  std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(folder), closedir);
  while (const dirent* entry = dir ? readdir(dir.get()) : nullptr) {
    if (entry->d_name[0] != '.') found.insert(std::atoi(entry->d_name));
  }
  *own = dir ? dirfd(dir.get()) : -1;
  return found;
}

std::map<int, std::string> Descriptors() {
  std::map<int, std::string> descriptors;
  int own;
  for (const int fd : Numbers("/proc/self/fd", &own)) {
    if (fd == own) continue;
    descriptors[fd] = LinkAt("/proc/self/fd/" + std::to_string(fd));
  }
  return descriptors;
}

std::string FileAt(const std::map<int, std::string>& descriptors, int fd) {
  const auto at = descriptors.find(fd);
  return at == descriptors.end() ? "" : at->second;
}

// What has become of one since it was `before`; empty: it was not open.
Part DescriptorPart(int fd, const std::string& before, const std::string& now) {
  const char* verb = before.empty() ? "left a descriptor open: "
                     : now.empty()  ? "closed a descriptor: "
                                    : "redirected a descriptor: ";
  return {verb + std::to_string(fd) + " (" + (now.empty() ? before : now) + ")", now, fd};
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

// An archive that was replaced meanwhile is let go of before a capture.
bool IsArchive(std::string_view path) {
  return path.ends_with(".pla (deleted)") || path.ends_with(".pla");
}

void AddOutput(Parts* parts) {
  if (__fpending(stdout) != 0) parts->insert({"left output in C's stdout", ""});
}

constexpr char kReadInput[] = "read standard input";

// Where nobody else reads it meanwhile, and where it can be told.
void AddInput(Parts* parts) {
  parts->insert({kReadInput, std::to_string(lseek(STDIN_FILENO, 0, SEEK_CUR))});
}

void AddDeeds(Parts* parts) {
  for (std::string& words : OwnDeeds()) parts->insert({std::move(words), ""});
}

// One part for each entry that did, so that all of them are found at once.
void AddDraws(Parts* parts) {
  for (const RandomDraw& draw : RandomDraws()) {
    parts->insert({"drew random numbers: " + draw.module, std::to_string(draw.when)});
  }
}

// proc(5), /proc/pid/statm: the first number is the size of everything that is mapped.
uint64_t Pages() {
  std::unique_ptr<FILE, int (*)(FILE*)> sizes(fopen("/proc/self/statm", "re"), fclose);
  unsigned long pages = 0;
  return sizes && std::fscanf(sizes.get(), "%lu", &pages) == 1 ? pages : 0;
}

// What the dump refuses (image/dump.cc).
void AddMemory(bool traits, ProcessState* state) {
  for (const image::Region& region : image::ReadRegions(std::pmr::get_default_resource(), traits)) {
    state->mapped.emplace_back(region.start, region.end);
    const std::string_view why = image::WhyNotAgain(region);
    const bool stack =
        region.kind == image::Region::Kind::kStack || region.end == image::OwnStackEnd();
    if (why.empty() || stack || IsArchive(region.path)) continue;
    state->memory.insert({"left " + std::string(why) + std::string(region.path),
                          std::to_string(region.start), -1, why == region.own ? region.start : 0});
  }
}

}  // namespace

ProcessState ProcessState::Now(const ProcessState* earlier) {
  ProcessState now;
  for (const auto add :
       {AddFolder, AddLimits, AddStatus, AddScheduling, AddSession, AddControls, AddArchitecture,
        AddPlace, AddTimers, AddChildren, AddOutput, AddInput, AddDeeds, AddDraws}) {
    add(&now.parts);
  }
  now.descriptors = Descriptors();
  now.pages = Pages();
  if (earlier != nullptr && earlier->pages == now.pages) {
    now.memory = earlier->memory;
    now.mapped = earlier->mapped;
  } else {
    AddMemory(/*traits=*/earlier == nullptr, &now);
  }
  return now;
}

bool ProcessState::Has(const Part& part) const {
  if (part.descriptor >= 0) return FileAt(descriptors, part.descriptor) == part.which;
  if (parts.count(part) != 0 || memory.count(part) != 0) return true;
  const auto behind =
      std::upper_bound(mapped.begin(), mapped.end(), part.address,
                       [](uint64_t address, const auto& range) { return address < range.first; });
  return behind != mapped.begin() && part.address < std::prev(behind)->second;
}

std::vector<Part> WhatWasLeft(const ProcessState& before, const ProcessState& now) {
  std::vector<Part> left;
  for (const auto set : {&ProcessState::parts, &ProcessState::memory}) {
    const Parts &old = before.*set, &all = now.*set;
    std::set_difference(all.begin(), all.end(), old.begin(), old.end(), std::back_inserter(left));
  }
  std::map<int, std::string> all = before.descriptors;
  all.insert(now.descriptors.begin(), now.descriptors.end());
  for (const auto& [fd, file] : all) {
    const std::string was = FileAt(before.descriptors, fd), is = FileAt(now.descriptors, fd);
    if (was != is) left.push_back(DescriptorPart(fd, was, is));
    // How far another file has been read says nothing, nor who has read it.
    if (was != is && fd == STDIN_FILENO)
      std::erase_if(left, [](const Part& part) { return part.words == kReadInput; });
  }
  return left;
}

std::set<pid_t> Threads() {
  int own;
  return Numbers("/proc/self/task", &own);
}

}  // namespace pylaunch::engine
