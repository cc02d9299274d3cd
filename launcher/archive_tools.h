#ifndef PYLAUNCH_LAUNCHER_ARCHIVE_TOOLS_H_
#define PYLAUNCH_LAUNCHER_ARCHIVE_TOOLS_H_

#include <cstdint>
#include <string>

// --stats, --verify and --prune: what they print, on stdout, for people or as one JSON object. Each
// returns the exit status; a cache folder that does not exist, or is "", holds nothing.

namespace pylaunch {

// 1 if an archive or an image's key cannot be read. `environment`: as in main(), to say whether an
// image would be used from here.
int Stats(const std::string& folder, char** environment, bool json);
// Checks every archive and image in `folder`, byte by byte. 1 if something is wrong with one; what
// is stale is not wrong.
int Verify(const std::string& folder, char** environment, bool json);
// Bounds the folder to `max_bytes` (0: no bound). 1 if it stays larger, because of what runs.
int Prune(const std::string& folder, uint64_t max_bytes, bool json);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_ARCHIVE_TOOLS_H_
