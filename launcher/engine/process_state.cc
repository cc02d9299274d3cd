#include "launcher/engine/process_state.h"

#include <dirent.h>
#include <stdio_ext.h>
#include <sys/mman.h>
#include <sys/resource.h>
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

#include "image/region_map.h"
#include "launcher/engine/read_record.h"

namespace pylaunch::engine {
namespace {

using Part = ProcessState::Part;
using Parts = std::set<Part>;

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

void AddDescriptors(Parts* parts) {
  int own;
  for (const int fd : Numbers("/proc/self/fd", &own)) {
    if (fd == own) continue;
    char buffer[PATH_MAX];
    const std::string link = "/proc/self/fd/" + std::to_string(fd);
    const ssize_t n = readlink(link.c_str(), buffer, sizeof buffer);
    const std::string file(buffer, n > 0 ? static_cast<size_t>(n) : 0);
    parts->insert({"left a descriptor open: " + std::to_string(fd) + " (" + file + ")", ""});
  }
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

// There is no other way to read it without setting it (proc(5)).
void AddUmask(Parts* parts) {
  std::unique_ptr<FILE, int (*)(FILE*)> status(fopen("/proc/self/status", "re"), fclose);
  char line[256];
  while (status && fgets(line, sizeof line, status.get()) != nullptr) {
    if (std::strncmp(line, "Umask:", 6) != 0) continue;
    parts->insert({"changed the umask", line});
    return;
  }
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

// Where nobody else reads it meanwhile, and where it can be told.
void AddInput(Parts* parts) {
  parts->insert({"read standard input", std::to_string(lseek(STDIN_FILENO, 0, SEEK_CUR))});
}

void AddDeeds(Parts* parts) {
  for (std::string& words : OwnDeeds()) parts->insert({std::move(words), ""});
}

// proc(5), /proc/pid/statm: the first number is the size of everything that is mapped.
uint64_t Pages() {
  std::unique_ptr<FILE, int (*)(FILE*)> sizes(fopen("/proc/self/statm", "re"), fclose);
  unsigned long pages = 0;
  return sizes && std::fscanf(sizes.get(), "%lu", &pages) == 1 ? pages : 0;
}

// What the dump refuses (image/dump.cc).
void AddMemory(Parts* parts) {
  for (const image::Region& region : image::ReadRegions(std::pmr::get_default_resource())) {
    const bool foreign = region.kind == image::Region::Kind::kForeign;
    const bool written = region.shared && (region.protection & PROT_WRITE) != 0;
    if ((!foreign && !written) || IsArchive(region.path)) continue;
    const std::string words = foreign ? "left memory that cannot be mapped again: "
                                      : "left a file mapped shared and writable: ";
    parts->insert({words + std::string(region.path), std::to_string(region.start)});
  }
}

}  // namespace

ProcessState ProcessState::Now(const ProcessState* earlier) {
  ProcessState now;
  for (const auto add : {AddDescriptors, AddFolder, AddLimits, AddUmask, AddTimers, AddChildren,
                         AddOutput, AddInput, AddDeeds}) {
    add(&now.parts);
  }
  now.pages = Pages();
  if (earlier != nullptr && earlier->pages == now.pages) {
    now.memory = earlier->memory;
  } else {
    AddMemory(&now.memory);
  }
  return now;
}

std::vector<Part> WhatWasLeft(const ProcessState& before, const ProcessState& now) {
  std::vector<Part> left;
  for (const auto set : {&ProcessState::parts, &ProcessState::memory}) {
    const Parts &old = before.*set, &all = now.*set;
    std::set_difference(all.begin(), all.end(), old.begin(), old.end(), std::back_inserter(left));
  }
  return left;
}

std::set<pid_t> Threads() {
  int own;
  return Numbers("/proc/self/task", &own);
}

}  // namespace pylaunch::engine
