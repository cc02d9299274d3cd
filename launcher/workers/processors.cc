#include "launcher/workers/processors.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <fstream>
#include <limits>
#include <string_view>

namespace pylaunch {
namespace {

constexpr double kNoBound = std::numeric_limits<double>::infinity();

int AffinityCount() {
  constexpr int kMost = 1 << 20;
  for (int size = CPU_SETSIZE; size <= kMost; size *= 2) {  // Too small a set is EINVAL.
    cpu_set_t* set = CPU_ALLOC(static_cast<size_t>(size));
    const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(size));
    const bool got = sched_getaffinity(0, bytes, set) == 0;
    const int count = got ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (got) return std::max(count, 1);
  }
  return 1;
}

// Version 2: "max 100000" or "150000 100000".
double QuotaOf(const std::string& folder) {
  std::ifstream file(folder + "/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return kNoBound;
  return std::strtod(quota.c_str(), nullptr) / period;
}

double FirstVersionQuotaOf(const std::string& folder) {
  std::ifstream quota_file(folder + "/cpu.cfs_quota_us");
  std::ifstream period_file(folder + "/cpu.cfs_period_us");
  double quota = -1;
  double period = 0;
  if (!(quota_file >> quota) || !(period_file >> period) || quota <= 0 || period <= 0) {
    return kNoBound;
  }
  return quota / period;
}

// The least that the group at `path` below `mount`, or one above it, grants.
double LeastQuota(const std::string& mount, std::string path,
                  double (*quota_of)(const std::string&)) {
  double least = kNoBound;
  while (true) {
    least = std::min(least, quota_of(mount + path));
    const size_t slash = path.rfind('/');
    if (slash == path.npos) return least;
    path.resize(slash);
  }
}

// True if `word` is one of the words in `list`, which commas part.
bool Has(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    if (list.substr(0, comma) == word) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

// By the lines of /proc/PID/cgroup, "NUMBER:CONTROLLERS:PATH" (cgroups(7)).
double ControlGroupQuota(const std::string& root) {
  double least = kNoBound;
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    if (path == "/") path.clear();
    const std::string mount = root + "/sys/fs/cgroup";
    if (controllers.empty()) {
      least = std::min(least, LeastQuota(mount, path, QuotaOf));
    } else if (Has(controllers, "cpu")) {
      for (const char* name : {"/cpu", "/cpu,cpuacct"}) {
        least = std::min(least, LeastQuota(mount + name, path, FirstVersionQuotaOf));
      }
    }
  }
  return least;
}

}  // namespace

int UsableProcessors(const std::string& root) {
  const int processors = AffinityCount();
  const double quota = std::ceil(ControlGroupQuota(root));
  return quota < processors ? std::max(1, static_cast<int>(quota)) : processors;
}

}  // namespace pylaunch
