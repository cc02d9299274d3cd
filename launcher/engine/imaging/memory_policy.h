#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMAGING_MEMORY_POLICY_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMAGING_MEMORY_POLICY_H_

#include <string>

// On which nodes of the machine the kernel puts a process's pages (numa(7)): each mapping may have
// a rule of its own (mbind(2)), all others follow the process's (set_mempolicy(2)), which fork(2)
// and execve(2) hand on. get_mempolicy(2) is forbidden in containers, /proc/pid/numa_maps is not.

namespace pylaunch::engine {

// The rule of this process as long as nobody has set another: "default", "interleave:0-1". Empty
// where the kernel knows none.
std::string MemoryPolicy();

// True if some mapping of this process has another rule than `policy`, which a restored process
// would not have.
bool HasOtherMemoryPolicy(const std::string& policy);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMAGING_MEMORY_POLICY_H_
