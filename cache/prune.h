#ifndef PYLAUNCH_CACHE_PRUNE_H_
#define PYLAUNCH_CACHE_PRUNE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
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

// Images of preloaded processes lie in this folder of the cache folder: NAME.img with its key
// (NAME.key), or NAME.note, which says why there is none, and NAME.late, which its maker goes by.
// What is in them is not known here; their time of last use is the key's mtime.
inline constexpr char kImagesFolder[] = "images";

// What the caller knows of an image.
enum class Standing {
  kUnknown,
  kAlive,  // Of this host and boot.
  kStale,  // Likewise, but something that it was made of has changed.
  kDead,   // Nothing on this host can ever start from it.
};

struct PruneRequest {
  std::string folder;
  uint64_t max_bytes = 0;  // Of archives and images together, as they lie on disk; 0: no bound.
  std::string keep;        // The archive or image that was just written; may be empty.
  std::function<Standing(const std::string& image)> judge;  // Empty: all unknown.
  size_t max_images = 0;                                    // 0: any number.
  std::optional<bool> on_network;  // Nothing: as the file system of `folder` tells.
  bool all_dead = false;  // Archives of environments that are gone go although there is room.
};

struct PruneOutcome {
  struct Holding {
    std::string path;    // The archive's or the image's.
    uint64_t bytes = 0;  // With its additions, its key.
    int64_t last_use_ns = 0;
    Standing standing = Standing::kUnknown;  // kDead for archives of an environment that is gone.
  };
  std::vector<Holding> removed;        // In the order in which they went.
  std::vector<Holding> in_use;         // Would have gone, but a process has it mapped.
  std::vector<std::string> leftovers;  // Removed: what killed writers left, old notes.
  uint64_t bytes_before = 0;
  uint64_t bytes_after = 0;
};

// Removes archives and images from `folder` until the rest is within the bounds: first what is
// dead, then what is stale, then that whose last use is longest ago. Never an archive that a
// process of this user on this host has mapped, nor `keep`. A process elsewhere that uses a removed
// archive goes on with it. Of an image only the name goes, and who runs from it keeps it; but not
// so on another host, so that on a network's file system only images of this boot go, and those
// that were not used for a month. Files of other users are neither counted nor removed, but for
// root.
//
// Whatever the bounds: dead images go, and so do temporary files and halves of images after an
// hour, and notes and NAME.late after a week. kIo: the folder cannot be listed.
Result<PruneOutcome> Prune(FileEnv& env, const PruneRequest& request);

// The archives in `folder` that a process has mapped, by what /proc tells.
std::vector<std::string> MappedArchives(FileEnv& env, const std::string& folder);

// True for a name that only a writer's temporary file has: an archive's, an image's or a key's.
bool IsTempName(std::string_view name);

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_PRUNE_H_
