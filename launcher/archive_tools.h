#ifndef PYLAUNCH_LAUNCHER_ARCHIVE_TOOLS_H_
#define PYLAUNCH_LAUNCHER_ARCHIVE_TOOLS_H_

#include <cstdint>
#include <string>

// --stats, --verify and --prune: what they print, on stdout, for people or as one JSON object. Each
// returns the exit status; a cache folder that does not exist, or is "", holds no archives.

namespace pylaunch {

// 1 if an archive cannot be read.
int Stats(const std::string& folder, bool json);
// Checks every archive in `folder`. 1 if something is wrong with one; stale entries are not wrong.
int Verify(const std::string& folder, bool json);
// Bounds the folder to `max_bytes` (0: no bound). 1 if it stays larger, because of what runs.
int Prune(const std::string& folder, uint64_t max_bytes, bool json);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_ARCHIVE_TOOLS_H_
