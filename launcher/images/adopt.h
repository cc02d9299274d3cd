#ifndef PYLAUNCH_LAUNCHER_IMAGES_ADOPT_H_
#define PYLAUNCH_LAUNCHER_IMAGES_ADOPT_H_

#include <string>

#include "image/key_file.h"
#include "image/order.h"
#include "launcher/command_line/options.h"

namespace pylaunch {

// An image that may be used, open.
struct OpenImage {
  int fd = -1;  // Kept across execve; -1: none.
  // For the restorer (image/handoff_variable.h): KeyHead::inodes, or kAnyInodes.
  std::string inodes;
  bool moved = false;  // KeyHead::moved
  std::string why;     // In words, why there is none; or how many files were proved by content.
};

// Proves by its content that the image of `file`, which was made elsewhere or of other copies of
// its files, holds here (image/adoption.h); in sealed mode, trusts that it does if nobody but root
// and this user can write to the image's folder. Where processor or kernel are others, it is tried
// first (contract/image_trial.h). What was proved is noted for later starts, if the
// mode allows it and there is a place for that.
OpenImage AdoptImage(const image::KeyFile& file, const image::KeyHead& head,
                     const image::ImageOrder& order, CacheMode mode);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_IMAGES_ADOPT_H_
