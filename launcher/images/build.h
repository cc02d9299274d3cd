#ifndef PYLAUNCH_LAUNCHER_IMAGES_BUILD_H_
#define PYLAUNCH_LAUNCHER_IMAGES_BUILD_H_

#include <optional>

#include "launcher/images/lookup.h"

namespace pylaunch {

// --image-build: sees to it that there is an image for `query`. Forks: nothing in the process that
// shall now preload and be captured, as a start with --image would, but end then (with status 0;
// what it made, or a note, is found in query.folder). Elsewhere the exit status of it all: 0 if
// there is an image now, which is told on stdout (for people or as JSON), 1 if there can be none, 2
// if the command line names no program's file.
std::optional<int> BuildImage(const ImageQuery& query, char** environment, bool json);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_IMAGES_BUILD_H_
