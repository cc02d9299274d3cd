#ifndef PYLAUNCH_LAUNCHER_COMMAND_LINE_OUTPUT_FILE_H_
#define PYLAUNCH_LAUNCHER_COMMAND_LINE_OUTPUT_FILE_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace pylaunch {

// Where a file that is written by rename when the program has ended will stand: `path` made
// absolute, symbolic links resolved, since the program may change its working directory.
// INVALID_ARGUMENT: it cannot be written as far as one can know now; nothing is created to find
// out. The message in the house shape without the leading "pylaunch: error: "; `option` is what
// asked for the file.
absl::StatusOr<std::string> OutputFile(std::string_view option, const std::string& path);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_COMMAND_LINE_OUTPUT_FILE_H_
