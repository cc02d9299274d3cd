#ifndef PYLAUNCH_IMAGE_PAGE_LIST_H_
#define PYLAUNCH_IMAGE_PAGE_LIST_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "image/region_map.h"

// Which pages of an image, and of the files that it maps, a process needs that does nothing of its
// own. They are a twentieth of an image. A start that does not find them in memory has them read at
// once, in parallel (read_ahead.h), and not at one page fault after the other, each of which waits
// for the disk, and for what the disk's own read-ahead takes for needed.
//
// The list stands in the image file behind the pages (Header::needed_offset), written when the
// image is tried. It is a hint: no process depends on it, and an image without one is as good.
//
// Another layout was thought of: the needed pages first, in one piece. In memory they lie apart, so
// each run would be a mapping of its own, some hundreds more, for which every start would pay.
// Disks of today read that many places as fast as one, if they are asked for all at once.

namespace pylaunch::image {

struct PageList {
  struct File {
    std::string path;           // Empty, and the first one: the image.
    std::vector<PageRun> runs;  // Pages of the file, in order.
    bool operator==(const File&) const = default;
  };
  std::vector<File> files;

  uint64_t bytes() const;  // How much is to be read.

  // In a process restored from the image that lies at `image`: adds the pages of files that it has
  // in memory now, or has written. More than it has touched, where the kernel has mapped some
  // around them (restore.cc, SplitForTrial). False: /proc does not tell, or the file at `image` is
  // not what was mapped; then nothing is added.
  bool AddThisProcess(const std::string& image);

  std::string Serialize() const;
  // Nothing: truncated or altered.
  static std::optional<PageList> Parse(std::string_view bytes);
};

// No list asks for more to be read, nor is it itself longer.
inline constexpr uint64_t kMostListedBytes = uint64_t{48} << 20;
inline constexpr uint64_t kMostListBytes = uint64_t{1} << 20;

// Puts `list` (serialized) behind the pages of the image at `image`, and says so in its header.
// False with errno set: the image may be of no use.
bool AppendPageList(const std::string& image, std::string_view list);

// Of the image that is open as `fd`; nothing: it has none, or not a whole one.
std::optional<PageList> ReadPageList(int fd);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_PAGE_LIST_H_
