#ifndef PYLAUNCH_LAUNCHER_TOOLS_ARCHIVE_TOOLS_H_
#define PYLAUNCH_LAUNCHER_TOOLS_ARCHIVE_TOOLS_H_

#include <cstdint>
#include <string>

// --stats, --verify and --prune: what they print, on stdout, for people or as one JSON object. Each
// returns the exit status; a cache folder that does not exist holds nothing, one that cannot be
// listed is an error.

namespace pylaunch {

struct CachePlace {
  std::string folder;    // Empty: there is none.
  std::string why_none;  // Then: in words.
};

// 1 if an archive or an image's key cannot be read. `environment`: as in main(), to say whether an
// image would be used from here.
int Stats(const CachePlace& cache, char** environment, bool json);
// Checks every archive and image in `cache`, byte by byte. 1 if something is wrong with one; what
// is stale is not wrong.
int Verify(const CachePlace& cache, char** environment, bool json);
// Bounds it to `max_bytes` (0: no bound). 1 if it stays larger, because of what runs.
int Prune(const CachePlace& cache, uint64_t max_bytes, bool json);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_TOOLS_ARCHIVE_TOOLS_H_
