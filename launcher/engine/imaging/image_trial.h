#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMAGING_IMAGE_TRIAL_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMAGING_IMAGE_TRIAL_H_

#include <string>

#include "launcher/contract/handoff.h"

namespace pylaunch::engine {

// How a process ends that TryImage() has restored and that got where the program would begin.
inline constexpr int kTrialPassed = 77;

struct TrialResult {
  // Why no process can be restored, image::kNotRestored and more; or empty: also where there can be
  // no such process, or somebody else ended it.
  std::string why_not;
  // Which pages one needed (image/page_list.h, serialized); empty: that is not known.
  std::string pages;
};

// Becomes a process from the image at `path`, as a start of it would, up to where the program would
// begin: there Handoff::image_trial ends it, so that nothing that a preloaded library does at exit
// is done to what the real program still uses. What hooks, fork handlers or the restorer cannot do
// is found before anybody relies on the image. It waits for that process, 20 seconds at most.
//
// `ends`: to see which pages an end needs, the process goes on then, runs `pass` for a program, and
// ends as any other. From where the program begins it is confined (confinement.h), so nothing that
// a library does at exit is done to anybody. However that ends, the image has been tried. Two
// seconds at most. REQUIRES: no late entries.
//
// REQUIRES: the capturing process once the image is written (image/capture.h).
// `order`: what this process was told; the other is told of its archive, but to write nothing.
TrialResult TryImage(const Handoff& order, const std::string& path, bool ends);

// In the process itself, where the program would begin: returns if it shall go on.
void PassTrial(const Handoff& handoff);
// Later, with the archive open, which its end closes.
void GoOnWithTrial();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMAGING_IMAGE_TRIAL_H_
