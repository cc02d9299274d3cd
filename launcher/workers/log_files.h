#ifndef PYLAUNCH_LAUNCHER_WORKERS_LOG_FILES_H_
#define PYLAUNCH_LAUNCHER_WORKERS_LOG_FILES_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"

namespace pylaunch {

// Makes "DIR/WORKER/ATTEMPT", with all folders on its way, for stdout.log and stderr.log.
absl::StatusOr<std::string> MakeLogFolder(const std::string& dir, size_t worker, int attempt);

// For writing, empty at first; closed on execve. -1: it cannot be made.
int OpenLog(const std::string& folder, const char* name);

// The last bytes of a file, at most `most`; empty if it cannot be read.
std::string TailOf(const std::string& path, size_t most);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_WORKERS_LOG_FILES_H_
