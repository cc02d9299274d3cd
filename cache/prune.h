#ifndef PYLAUNCH_CACHE_PRUNE_H_
#define PYLAUNCH_CACHE_PRUNE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "cache/error.h"
#include "cache/file_env.h"

namespace pylaunch::cache {

// How large a cache folder may grow where nobody says otherwise: some thirty environments of the
// size of transformers and torch.
inline constexpr uint64_t kDefaultMaxBytes = uint64_t{1} << 30;

struct PruneOutcome {
  struct Archive {
    std::string path;
    uint64_t bytes = 0;  // With its additions.
    int64_t last_use_ns = 0;
  };
  std::vector<Archive> removed;  // Oldest use first.
  std::vector<Archive> in_use;   // Would have gone, but a process has it mapped.
  uint64_t bytes_before = 0;
  uint64_t bytes_after = 0;
};

// Removes archives from `folder`, the one first whose last use is longest ago, until the rest is no
// larger than `max_bytes` (0: no bound). Never one that a process of this user on this host has
// mapped, nor the one at `keep` (may be empty). A process elsewhere that uses a removed one goes on
// with it. kIo: the folder cannot be listed.
Result<PruneOutcome> Prune(FileEnv& env, const std::string& folder, uint64_t max_bytes,
                           const std::string& keep);

// The archives in `folder` that a process has mapped, by what /proc tells.
std::vector<std::string> MappedArchives(FileEnv& env, const std::string& folder);

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_PRUNE_H_
