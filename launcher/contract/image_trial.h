#ifndef PYLAUNCH_LAUNCHER_CONTRACT_IMAGE_TRIAL_H_
#define PYLAUNCH_LAUNCHER_CONTRACT_IMAGE_TRIAL_H_

#include <string>

namespace pylaunch {

// How a process ends that TryImage() has restored and that got where the program would begin.
inline constexpr int kTrialPassed = 77;

// An image that is open.
struct Candidate {
  int fd = -1;
  std::string inodes = {};  // KeyHead's, as what follows.
  bool moved = false;
};

// Becomes a process from `image` with `restorer` (an absolute path), as a start of it would, up to
// where the program would begin: there Handoff::image_trial ends it, so that nothing that a
// preloaded library does at exit is done to what the real program still uses. What hooks, fork
// handlers or the restorer cannot do is found before anybody relies on the image.
// Returns why none can (image::kNotRestored and more), or an empty string: also where there can be
// no such process, or somebody else ended it. It waits for that process, 20 seconds at most.
// For the capturing process once the image is written (image/capture.h), and for who adopts it.
// REQUIRES: one thread.
std::string TryImage(const std::string& restorer, const Candidate& image);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_CONTRACT_IMAGE_TRIAL_H_
