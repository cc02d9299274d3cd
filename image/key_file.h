#ifndef PYLAUNCH_IMAGE_KEY_FILE_H_
#define PYLAUNCH_IMAGE_KEY_FILE_H_

#include <sys/stat.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/descriptor.h"
#include "cache/error.h"
#include "image/image_files.h"
#include "image/key.h"
#include "image/order.h"

namespace pylaunch::image {

// A key file, of which most starts need only the beginning.
class KeyFile {
 public:
  explicit KeyFile(std::string path);

  const std::string& path() const { return path_; }
  std::optional<KeyHead> Head() const;
  std::optional<Key> Whole() const;
  // Why there is no head or no key.
  std::string Fault() const;
  // CLOCK_REALTIME: its modification time, which is the image's last use (collection.h, NoteUse).
  int64_t used_ns() const;
  // Puts a key in its place that has another state of the image, and all else, its mode and its
  // modification time too, as it was. Where that cannot be done, it stays.
  void Renew(const FileState& image) const;

 private:
  std::string Bytes(size_t most) const;

  std::string path_;
  struct stat st_ = {};
  cache::Descriptor fd_;
};

// The paths of all keys of a command's images in `folder`, as made and as adopted by `host`; none
// if it does not exist.
cache::Result<std::vector<std::string>> KeysOf(const std::string& folder, const Facts& command,
                                               std::string_view host);

// The facts that must stand in `head` for a start as `order` is.
Facts FactsNow(const ImageOrder& order, const KeyHead& head);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_KEY_FILE_H_
