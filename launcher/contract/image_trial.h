#ifndef PYLAUNCH_LAUNCHER_CONTRACT_IMAGE_TRIAL_H_
#define PYLAUNCH_LAUNCHER_CONTRACT_IMAGE_TRIAL_H_

#include <sys/types.h>

#include <string>

#include "image/page_list.h"
#include "launcher/contract/handoff.h"

namespace pylaunch {

// How a process ends that TryImage() has restored and that got where the program would begin.
inline constexpr int kTrialPassed = 77;

// An image that is open.
struct Candidate {
  int fd = -1;
  std::string inodes = {};  // KeyHead's, as what follows.
  bool moved = false;
};

// Which pages a trial's process is to tell (trial_pages.h).
enum class TrialPages {
  kNone,
  kOfStart,  // Up to where the program would begin.
  kOfWhole,  // Of an end, too. REQUIRES: no late entries.
};

struct TrialResult {
  // Why no process can be restored, image::kNotRestored and more; or empty: also where there can be
  // no such process, or somebody else ended it.
  std::string why_not;
  // Which pages one needed (image/page_list.h, serialized); empty: that is not known.
  std::string pages;
};

// Becomes a process from `image`, which lies at `path`, as a start of it would, up to where the
// program would begin: there Handoff::image_trial ends it, so that nothing that a preloaded library
// does at exit is done to what the real program still uses. What hooks, fork handlers or the
// restorer cannot do is found before anybody relies on the image. It waits for that process, 20
// seconds at most; after the program would have begun, two. However that ends then, the image has
// been tried.
//
// `order`: what the process is told of its Python, of what is installed and of its archive, to
// which it writes nothing.
// For the capturing process once the image is written (image/capture.h), and for who adopts it.
// REQUIRES: one thread.
TrialResult TryImage(const Handoff& order, const Candidate& image, const std::string& path,
                     TrialPages pages);

// Where in the memory file Handoff::trial_pages the lists stand: its size in four bytes, then the
// list. The first is told where the program begins, the second at the end.
inline constexpr off_t kFirstList = 0, kSecondList = image::kMostListBytes;

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_CONTRACT_IMAGE_TRIAL_H_
