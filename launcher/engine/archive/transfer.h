#ifndef PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_TRANSFER_H_
#define PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_TRANSFER_H_

#include <string>

#include "cache/stamp.h"
#include "launcher/contract/handoff.h"

namespace pylaunch::engine {

// --export and --import, as the handoff says, of the archive at `archive`, which is for `key`.
// Tells what was done on stdout, for people or as JSON. Returns the exit status: 2 for a file that
// cannot be used, 1 for anything else that failed.
int Transfer(const Handoff& handoff, const std::string& archive, const cache::BuildKey& key);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_TRANSFER_H_
