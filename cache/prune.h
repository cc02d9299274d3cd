#ifndef PYLAUNCH_CACHE_PRUNE_H_
#define PYLAUNCH_CACHE_PRUNE_H_

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cache/error.h"
#include "cache/file_env.h"

namespace pylaunch::cache {

// How large a cache folder may grow where nobody says otherwise: some thirty environments of the
// size of transformers and torch (30 MB each), and eight of their images (300 MB each).
inline constexpr uint64_t kDefaultMaxBytes = uint64_t{4} << 30;

// How old a temporary file is that nobody writes any more.
inline constexpr int64_t kTempLifeNs = 3600LL * 1'000'000'000;

// What is known of something that lies in the folder.
enum class Standing : uint8_t {
  kUnknown,
  kAlive,     // Of this host and boot.
  kStale,     // Likewise, but something that it was made of has changed.
  kDead,      // Nothing on this host can ever start from it, or an archive's environment is gone.
  kLeftover,  // What a killed writer left.
};

// An archive with its additions, or what others keep in the folder.
struct Holding {
  std::string path;
  uint64_t bytes = 0;  // With all that goes with it.
  // Of what others keep, the modification time of the first companion that is there, else of
  // `path`: what has another one by the time it is to go stays.
  int64_t last_use_ns = 0;
  Standing standing = Standing::kUnknown;
  // Of what others keep: files that go before it, if they are there.
  std::vector<std::string> companions;
  bool pinned = false;  // It must stay: somebody out of sight may use it.
};

struct PruneRequest {
  std::string folder;
  uint64_t max_bytes = 0;       // Of all together but what is pinned; 0: no bound.
  std::string keep;             // The path of what was just written; may be empty.
  std::vector<Holding> others;  // What lies there besides archives (image/holdings.h).
  size_t max_others = 0;        // Likewise; 0: any number.
  bool all_dead = false;        // Archives of environments that are gone go although there is room.
};

struct PruneOutcome {
  std::vector<Holding> removed;        // In the order in which they went.
  std::vector<Holding> in_use;         // Would have gone, but a process has it mapped, or pinned.
  std::vector<std::string> leftovers;  // Removed: what killed writers left.
  uint64_t bytes_before = 0;
  uint64_t bytes_after = 0;
};

// Removes archives and others from `folder` until the rest is within the bounds: first what is
// dead, then what is stale, then that whose last use is longest ago. Never an archive that a
// process of this user on this host has mapped, nor what is pinned, nor `keep`. A process elsewhere
// that uses a removed archive goes on with it. What is pinned counts for no bound: else those whom
// it belongs to, other hosts, would push out what is this one's. Archives of other users are
// neither counted nor removed, but for root.
//
// Whatever the bounds: others that are dead or left over go, and so do temporary files of archives
// after an hour. kIo: the folder cannot be listed.
Result<PruneOutcome> Prune(FileEnv& env, const PruneRequest& request);

// The archives in `folder` that a process has mapped, by what /proc tells.
std::vector<std::string> MappedArchives(FileEnv& env, const std::string& folder);

// True for a name that only a temporary file of FileEnv::CreateTemp has.
bool IsTempName(std::string_view name);

// True if this process's user may remove what is another's, or `st` is his.
bool IsMine(const struct stat& st);

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_PRUNE_H_
