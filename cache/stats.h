#ifndef PYLAUNCH_CACHE_STATS_H_
#define PYLAUNCH_CACHE_STATS_H_

#include <cstdint>
#include <string>

#include "cache/file_env.h"

namespace pylaunch::cache {

// The version of the archive format that this build reads and writes.
uint32_t FormatVersion();

// Prints what the archives in `folder` hold, one paragraph each, on stdout. Returns the exit
// status: 0, also for a folder without archives or one that does not exist; 1 if an archive there
// cannot be read (which is told).
int PrintStats(FileEnv& env, const std::string& folder);

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_STATS_H_
