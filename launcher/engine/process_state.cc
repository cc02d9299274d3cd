#include "launcher/engine/process_state.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace pylaunch::engine {
namespace {

std::vector<int> Descriptors() {
  std::vector<int> found;
  std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir("/proc/self/fd"), closedir);
  while (const dirent* entry = dir ? readdir(dir.get()) : nullptr) {
    const int fd = std::atoi(entry->d_name);
    if (entry->d_name[0] != '.' && fd != dirfd(dir.get())) found.push_back(fd);
  }
  return found;
}

std::string Limits() {
  std::string text;
  for (int which = 0; which < static_cast<int>(RLIM_NLIMITS); ++which) {
    rlimit limit = {};
    getrlimit(static_cast<__rlimit_resource>(which), &limit);
    text += std::to_string(limit.rlim_cur) + "/" + std::to_string(limit.rlim_max) + " ";
  }
  return text;
}

// There is no other way to read it without setting it (proc(5)).
std::string Umask() {
  std::unique_ptr<FILE, int (*)(FILE*)> status(fopen("/proc/self/status", "re"), fclose);
  char line[256];
  while (status && fgets(line, sizeof line, status.get()) != nullptr) {
    if (std::strncmp(line, "Umask:", 6) == 0) return line;
  }
  return "";
}

std::string Folder() {
  char buffer[PATH_MAX];
  return getcwd(buffer, sizeof buffer) != nullptr ? buffer : "";
}

std::string NameOf(int fd) {
  char buffer[PATH_MAX];
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t n = readlink(link.c_str(), buffer, sizeof buffer);
  return std::to_string(fd) + " (" + std::string(buffer, n > 0 ? static_cast<size_t>(n) : 0) + ")";
}

bool HasTimer() {
  for (const auto which : {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF}) {
    itimerval timer = {};
    getitimer(which, &timer);
    if (timer.it_value.tv_sec != 0 || timer.it_value.tv_usec != 0) return true;
  }
  return false;
}

bool HasChild() {
  siginfo_t info;
  return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

}  // namespace

ProcessState ProcessState::Now() { return {Descriptors(), Folder(), Limits(), Umask()}; }

std::string WhatWasLeft(const ProcessState& before) {
  const ProcessState now = ProcessState::Now();
  for (const int fd : now.descriptors) {
    const auto& old = before.descriptors;
    if (std::find(old.begin(), old.end(), fd) == old.end()) {
      return "preloading left a descriptor open: " + NameOf(fd);
    }
  }
  if (now.folder != before.folder) return "preloading changed the working directory";
  if (now.limits != before.limits) return "preloading changed a resource limit";
  if (now.umask != before.umask) return "preloading changed the umask";
  if (HasTimer()) return "preloading left a timer running";
  if (HasChild()) return "preloading left a child process";
  return "";
}

}  // namespace pylaunch::engine
