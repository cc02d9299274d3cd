#include "image/kernel_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "cache/descriptor.h"
#include "cache/file_env.h"

namespace pylaunch::image {
namespace {

// Of cgroups(7), both versions: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/. What stands
// beside them there counts what is used.
constexpr std::string_view kLimits[] = {"cgroup.controllers",
                                        "cpu.cfs_period_us",
                                        "cpu.cfs_quota_us",
                                        "cpu.max",
                                        "cpu.shares",
                                        "cpu.weight",
                                        "cpuset.cpus",
                                        "cpuset.cpus.effective",
                                        "cpuset.effective_cpus",
                                        "cpuset.effective_mems",
                                        "cpuset.mems",
                                        "cpuset.mems.effective",
                                        "memory.high",
                                        "memory.limit_in_bytes",
                                        "memory.low",
                                        "memory.max",
                                        "memory.memsw.limit_in_bytes",
                                        "memory.min",
                                        "memory.soft_limit_in_bytes",
                                        "memory.swap.max",
                                        "pids.max"};
// Of /proc/sys, what the kernel changes by itself: proc(5), random(4).
constexpr std::string_view kCounters[] = {"/proc/sys/fs/aio-nr",
                                          "/proc/sys/fs/dentry-state",
                                          "/proc/sys/fs/file-nr",
                                          "/proc/sys/fs/inode-nr",
                                          "/proc/sys/fs/inode-state",
                                          "/proc/sys/kernel/ns_last_pid",
                                          "/proc/sys/kernel/pty/nr",
                                          "/proc/sys/kernel/random/entropy_avail",
                                          "/proc/sys/kernel/tainted",
                                          "/proc/sys/kernel/random/uuid",
                                          "/proc/sys/net/netfilter/nf_conntrack_count"};
// Documentation/ABI/stable/sysfs-devices-node, testing/sysfs-devices-system-cpu.
constexpr std::string_view kLists[] = {"has_cpu", "has_memory", "isolated", "kernel_max",
                                       "offline", "online",     "possible", "present"};

template <typename Names>
bool IsOneOf(const Names& names, std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

// Of a process's own it tells what others there do not.
constexpr std::string_view kOwnGroups = "/proc/self/cgroup";

bool IsDecided(std::string_view path) {
  const std::string_view name = cache::BaseOf(path);
  if (path == kOwnGroups) return true;
  if (path.starts_with("/proc/sys/")) return !IsOneOf(kCounters, path);
  if (path.starts_with("/sys/fs/cgroup/")) return IsOneOf(kLimits, name);
  if (path.starts_with("/sys/devices/system/")) return IsOneOf(kLists, name);
  return path.starts_with("/sys/kernel/mm/transparent_hugepage/");
}

// Without what names this process by its number. Empty: another process's.
std::string Spelled(std::string_view path) {
  constexpr std::string_view kProcesses = "/proc/";
  if (!path.starts_with(kProcesses)) return std::string(path);
  const std::string_view rest = path.substr(kProcesses.size());
  const std::string_view process = rest.substr(0, rest.find('/'));
  if (process.find_first_not_of("0123456789") != process.npos) return std::string(path);
  if (process != std::to_string(getpid())) return "";
  return "/proc/self" + std::string(rest.substr(process.size()));
}

bool IsOfProcess(std::string_view path) {
  return path.empty() || path.starts_with("/proc/self") || path.starts_with("/proc/thread-self");
}

std::string State(const std::string& path) {
  if (!IsDecided(path)) return access(path.c_str(), F_OK) == 0 ? "there" : "absent";
  const cache::Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.ok()) return errno == ENOENT ? "absent" : "error " + std::to_string(errno);
  constexpr size_t kMost = 64 * 1024;
  std::string text(kMost, '\0');
  size_t size = 0;
  for (ssize_t n; size < kMost && (n = read(file.get(), text.data() + size, kMost - size)) > 0;) {
    size += static_cast<size_t>(n);
  }
  return Hashed(std::string_view(text).substr(0, size));
}

}  // namespace

bool IsKernelFile(std::string_view path) {
  return path.starts_with("/proc/") || path.starts_with("/sys/");
}

std::optional<Fact> KernelFileFact(std::string_view path) {
  if (!IsKernelFile(path)) return std::nullopt;
  const std::string spelled = Spelled(path);
  if (IsOfProcess(spelled) && spelled != kOwnGroups) return std::nullopt;
  return Fact{std::string(kKernelFile) + spelled, State(spelled)};
}

}  // namespace pylaunch::image
