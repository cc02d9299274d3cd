#ifndef PYLAUNCH_IMAGE_LATE_H_
#define PYLAUNCH_IMAGE_LATE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "image/key.h"

// Late entries: those of a preload plan that leave what a process has beside its memory (a thread,
// a descriptor). Images are made without them, and they are imported after each restore. The start
// that found them leaves their list in a file beside the images (LateFor), for the start
// that makes the next one; the image itself knows which it was made without.

namespace pylaunch::image {

struct LateEntry {
  uint64_t index = 0;  // In the plan.
  std::string left;    // In words: "left a thread: polars-ooc-clea".
  // Of the modules that it brought. If one has changed, the entry is tried again.
  std::vector<FileProof> files;
};
// By index, each once.
using LateEntries = std::vector<LateEntry>;

std::string Serialize(const LateEntries& entries);
// Nothing: truncated, altered, or of another format.
std::optional<LateEntries> ParseLate(std::string_view bytes);

// What the file at `path` says of a plan of `size` entries, less those whose files have changed.
// Nothing if there is none, if another user could have written it, or if it is damaged.
LateEntries ReadLate(const std::string& path, size_t size);

// All of both lists.
LateEntries Merge(LateEntries known, LateEntries found);

bool IsLate(const LateEntries& entries, size_t index);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_LATE_H_
