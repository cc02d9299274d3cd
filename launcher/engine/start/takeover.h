#ifndef PYLAUNCH_LAUNCHER_ENGINE_START_TAKEOVER_H_
#define PYLAUNCH_LAUNCHER_ENGINE_START_TAKEOVER_H_

#include <optional>
#include <vector>

#include "launcher/contract/handoff.h"

namespace pylaunch::engine {

// Reads the handoff that the front end left for this process and takes every trace of it away: the
// variable, LD_PRELOAD's first part and GLIBC_TUNABLES' last vanish from `environ` and from the
// block that /proc/self/environ shows, the descriptor is closed. Nothing: no handoff, or one for
// another process; then this process is none of our business. Call before main, single-threaded.
// With `open` the descriptors are left open and put there, that of the handoff first.
std::optional<Handoff> TakeHandoff(std::vector<int>* open = nullptr);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_START_TAKEOVER_H_
