#ifndef PYLAUNCH_CACHE_CHECK_H_
#define PYLAUNCH_CACHE_CHECK_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cache/archive_reader.h"
#include "cache/error.h"
#include "cache/file_env.h"

namespace pylaunch::cache {

// The version of the archive format that this build reads and writes.
uint32_t FormatVersion();

// The archives in `folder` and their files of additions, sorted by path; empty for a folder that
// does not exist. kIo: it cannot be listed.
Result<std::vector<std::string>> ArchivesIn(FileEnv& env, const std::string& folder);

// One archive as tools see it.
struct ArchiveSummary {
  std::string path;
  std::optional<Error> error;  // It cannot be used; then nothing below says anything.
  std::string key;             // What it was made for.
  std::string gone;            // Its environment, if that is not there any more.
  uint64_t file_bytes = 0;
  int64_t created_ns = 0;
  int64_t last_use_ns = 0;
  uint32_t modules = 0;
  uint32_t folders = 0;
  uint64_t code_bytes = 0;   // Of marshal data...
  uint64_t frame_bytes = 0;  // ...and compressed.

  // Only after Check.
  std::vector<std::string> wrong;  // One line each: what is damaged, or contradicts its source.
  uint32_t stale = 0;              // Modules whose source has changed or gone: ordinary.
  uint32_t stale_folders = 0;
};

// The environment that `archive` was made for if that is known to be gone, else an empty string.
std::string GoneEnvironment(FileEnv& env, const ArchiveReader& archive);

// Reads the index, and checks its checksums.
ArchiveSummary Summarize(FileEnv& env, const std::string& path);
// And every record, every frame, and every source that is still as stamped: its bytes must then be
// those that the code was compiled from, as far as the archive knows their digest.
ArchiveSummary Check(FileEnv& env, const std::string& path);

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_CHECK_H_
