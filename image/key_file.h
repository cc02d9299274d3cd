#ifndef PYLAUNCH_LAUNCHER_KEY_FILE_H_
#define PYLAUNCH_LAUNCHER_KEY_FILE_H_

#include <sys/stat.h>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "cache/descriptor.h"
#include "cache/error.h"
#include "image/key.h"
#include "launcher/handoff.h"

namespace pylaunch {

// A key file, of which most starts need only the beginning.
class KeyFile {
 public:
  explicit KeyFile(std::string path);

  const std::string& path() const { return path_; }
  std::optional<image::KeyHead> Head() const;
  std::optional<image::Key> Whole() const;
  // Why there is no head or no key.
  std::string Fault() const;
  // CLOCK_REALTIME: its modification time, which is the image's last use (collection.h, NoteUse).
  int64_t used_ns() const;
  // Puts a key in its place that has another state of the image, and all else, its mode and its
  // modification time too, as it was. Where that cannot be done, it stays.
  void Renew(const image::FileState& image) const;

 private:
  std::string Bytes(size_t most) const;

  std::string path_;
  struct stat st_ = {};
  cache::Descriptor fd_;
};

// The paths of all keys of a command's images in `folder`; none if it does not exist.
cache::Result<std::vector<std::string>> KeysOf(const std::string& folder,
                                               const image::Facts& command);

// How many of `facts` do not stand in `in`.
size_t CountMissing(const image::Facts& facts, const image::Facts& in);

// The facts that must stand in `head` for a start as `order` is.
image::Facts FactsNow(const ImageOrder& order, const image::KeyHead& head);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_KEY_FILE_H_
