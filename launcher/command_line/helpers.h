#ifndef PYLAUNCH_LAUNCHER_COMMAND_LINE_HELPERS_H_
#define PYLAUNCH_LAUNCHER_COMMAND_LINE_HELPERS_H_

#include <optional>
#include <string>

#include "launcher/command_line/options.h"

namespace pylaunch {

// A process that runs nothing of the user's itself: a resource tracker, a launcher of ranks, pip.
// It inherits PYLAUNCH_PRELOAD and PYLAUNCH_IMAGE from who starts it or was started by it, and has
// no use for what they would load. Known are those of helpers.txt, no others; any other process
// does as its environment says.
struct Helper {
  std::string name;  // Of its module, "torch.distributed.run"; "this command" where it has none.
  bool imports = false;  // It gains by an image, if there is one.
};

// The helper that `options` starts, or nothing. Reads the beginning of the program's file if that
// is a small regular one.
std::optional<Helper> FindHelper(const Options& options);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_COMMAND_LINE_HELPERS_H_
