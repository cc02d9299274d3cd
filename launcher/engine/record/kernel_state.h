#ifndef PYLAUNCH_LAUNCHER_ENGINE_RECORD_KERNEL_STATE_H_
#define PYLAUNCH_LAUNCHER_ENGINE_RECORD_KERNEL_STATE_H_

#include <set>
#include <string>

#include "launcher/engine/record/process_state.h"

namespace pylaunch::engine {

// What the kernel keeps of a process beside its memory, threads and descriptors, as it tells now.
// Nothing is said of what it does not know. docs/image-design.md, "What the kernel keeps", has the
// table.
void AddKernelState(std::set<ProcessState::Part>* parts);

// readlink(2); empty: none.
std::string LinkAt(const std::string& path);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_RECORD_KERNEL_STATE_H_
