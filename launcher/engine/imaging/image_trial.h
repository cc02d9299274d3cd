#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMAGING_IMAGE_TRIAL_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMAGING_IMAGE_TRIAL_H_

#include <string>

namespace pylaunch::engine {

// How a process ends that TryImage() has restored and that got where the program would begin.
inline constexpr int kTrialPassed = 77;

// Becomes a process from the image at `path` with `restorer` (an absolute path), as a start of it
// would, up to where the program would begin: there Handoff::image_trial ends it, so that nothing
// that a preloaded library does at exit is done to what the real program still uses. What hooks,
// fork handlers or the restorer cannot do is found before anybody relies on the image.
// Returns why none can (image::kNotRestored and more), or an empty string: also where there can be
// no such process, or somebody else ended it. It waits for that process, 20 seconds at most.
// REQUIRES: the capturing process once the image is written (image/capture.h).
std::string TryImage(const std::string& restorer, const std::string& path);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMAGING_IMAGE_TRIAL_H_
