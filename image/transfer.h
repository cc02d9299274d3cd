#ifndef PYLAUNCH_IMAGE_TRANSFER_H_
#define PYLAUNCH_IMAGE_TRANSFER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cache/archive_reader.h"
#include "cache/archive_writer.h"
#include "cache/error.h"
#include "cache/file_env.h"
#include "image/facts.h"

// Images in an exported archive (cache/transfer.h), with what another host needs to adopt them.
// Format: docs/archive.md. Not thread-safe.

namespace pylaunch::image {

// What became of one image.
struct Carried {
  std::string name;         // FAMILY-STATE (image_files.h).
  uint64_t bytes = 0;       // Its size...
  uint64_t data_bytes = 0;  // ...and what of it is no hole.
  bool kept = false;        // An own one of that name, which holds, stayed.
  // In words, why it was left out; of one that came in, why this host cannot start from it. Or
  // empty.
  std::string why;
  bool left_out = false;
};

struct PackRequest {
  std::string cache_folder;
  std::string python;        // Images of others stay, and nothing is said of them.
  bool only_shared = false;  // Those alone that were made for others (KeyHead::shared).
};

// Adds the images to `to`, but those that are for this host, boot or user alone, hold a secret that
// somebody has allowed, or are not as they were written. Waits for who makes one. kIo: writing
// failed, or they cannot be listed.
cache::Result<std::vector<Carried>> PackImages(cache::FileEnv& env, const PackRequest& request,
                                               cache::ArchiveWriter* to);

// Brings images from an exported archive into a cache folder. What was not published goes with it.
class Arrivals {
 public:
  // `replace`: own images do not count.
  Arrivals(cache::FileEnv& env, std::string cache_folder, std::string python, bool replace);
  ~Arrivals();
  Arrivals(const Arrivals&) = delete;
  Arrivals& operator=(const Arrivals&) = delete;

  // Checks all that `from` has of images, and writes them to files that nobody starts from yet.
  // kCorrupt, kForeign (another format or Python); kIo: no room, or writing failed.
  cache::Result<void> Unpack(const cache::ArchiveReader& from);
  // Each image comes, or stays as it was, whole. kIo: some have not come.
  cache::Result<void> Publish();

  const std::vector<Carried>& images() const { return images_; }

 private:
  struct Packed;
  struct Arrival;

  // What `packed` is besides its pages.
  cache::Result<void> TakeKey(const cache::ArchiveReader& from, const Facts& machine,
                              Packed* packed) const;
  cache::Result<void> UnpackOne(const cache::ArchiveReader& from, const Packed& packed);
  cache::Result<void> PublishOne(Arrival* arrival);
  // Where `to` is null, looks at them alone.
  cache::Result<void> WritePages(const cache::ArchiveReader& from, const Packed& packed,
                                 cache::WritableFile* to) const;
  cache::Result<void> MakeRoom(const std::vector<Packed>& all) const;
  bool HoldsAlready(const std::string& image) const;
  tl::unexpected<cache::Error> Damaged(const std::string& what) const;

  cache::FileEnv& env_;
  const std::string cache_folder_, folder_, python_;
  const bool replace_;
  std::vector<Arrival> arrivals_;
  std::vector<Carried> images_;
};

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_TRANSFER_H_
