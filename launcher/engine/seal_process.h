#ifndef PYLAUNCH_LAUNCHER_ENGINE_SEAL_PROCESS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_SEAL_PROCESS_H_

#include <string>

#include "cache/seal.h"

namespace pylaunch::engine {

// Starts `sealer` (pylaunch-sealer) with `job`. The sealer detaches itself: its first process ends
// at once and is reaped here, with SIGCHLD kept from the program; the second, no child of ours,
// does the work. With `wait` the first one does the work. Returns an empty string or one line on
// what failed: starting it, or, with `wait`, sealing.
std::string RunSealer(const std::string& sealer, const cache::SealJob& job, bool wait);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_SEAL_PROCESS_H_
