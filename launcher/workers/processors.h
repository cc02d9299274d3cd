#ifndef PYLAUNCH_LAUNCHER_WORKERS_PROCESSORS_H_
#define PYLAUNCH_LAUNCHER_WORKERS_PROCESSORS_H_

#include <string>

namespace pylaunch {

// How many processors this process may use, at least 1: those of its affinity
// (sched_getaffinity(2)), and no more than its control groups grant, a part of one counting as one
// (cpu.max, Documentation/admin-guide/cgroup-v2.rst; cpu.cfs_quota_us of version 1). `root` stands
// before /proc and /sys, for tests.
int UsableProcessors(const std::string& root = "");

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_WORKERS_PROCESSORS_H_
