#ifndef PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_SEAL_PROCESS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_SEAL_PROCESS_H_

#include <string>

#include "cache/seal.h"

namespace pylaunch::engine {

enum class SealWait {
  kNot,  // The program goes on: the sealer detaches itself. Its first process ends at once and is
         // reaped here, with SIGCHLD kept from the program; the second is no child of ours.
  kEnding,  // This process is about to end: nothing is reaped.
  kUntilDone,
};

// Starts `sealer` (pylaunch-sealer) with `job`. Returns an empty string or one line on what failed:
// starting it, or, with kUntilDone, sealing.
std::string RunSealer(const std::string& sealer, const cache::SealJob& job, SealWait wait);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_SEAL_PROCESS_H_
