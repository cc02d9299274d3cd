#ifndef PYLAUNCH_IMAGE_COLLECTION_H_
#define PYLAUNCH_IMAGE_COLLECTION_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/error.h"
#include "cache/file_env.h"
#include "cache/prune.h"
#include "image/key.h"

// The images in a folder as tools see them, and how many of them are kept.

namespace pylaunch::image {

// More of one user on one host would be of states that do not come back.
inline constexpr size_t kMaxImages = 8;

struct ImageSummary {
  std::string path;
  uint64_t bytes = 0;       // Its size...
  uint64_t disk_bytes = 0;  // ...and what of it is no hole, with the key.
  int64_t created_ns = 0;   // CLOCK_REALTIME.
  int64_t last_use_ns = 0;
  bool foreign = false;               // Another user's, which is not looked into.
  std::optional<cache::Error> error;  // The key cannot be used; then nothing below says anything.
  Key key;
  cache::Standing standing = cache::Standing::kUnknown;
  // In words, the first thing that is not as it was: why nobody can start from it, or, if it is
  // alive, why nobody with this process's environment can.
  std::string difference;
  std::vector<std::string> wrong;  // Only after Check: one line each.

  const std::string& Value(std::string_view fact) const;  // Or an empty string.
};

// What the folder holds besides images: a refusal (`why`: the note's text), or what a writer that
// is at work or was killed has left.
struct Leftover {
  std::string path;
  uint64_t bytes = 0;
  int64_t age_ns = 0;
  std::string why;
};

struct Collection {
  std::vector<ImageSummary> images;  // By path.
  std::vector<Leftover> notes;
  std::vector<Leftover> temporary;
};

// Of `folder`; empty if it does not exist. `check`: every byte of every image is read, too.
// `environment` as in main(). kIo: it cannot be listed.
cache::Result<Collection> Collect(cache::FileEnv& env, const std::string& folder,
                                  char** environment, bool check);

// The facts in which the images of one command differ, so that none of them could be the other. No
// values: most are hashes, and those of variables shall stay some.
struct Divergence {
  struct Item {
    std::string fact;
    size_t values = 0;  // How many there are; that an image does not have the fact is one, too.
  };
  std::string family;  // FamilyOf
  size_t images = 0;
  std::vector<Item> items;  // Those with most values first.
};
// Of every command that has several images with a key that can be used.
std::vector<Divergence> Divergences(const Collection& collection);

// What is known of the image at `path`, for cache::Prune. What this process does not see (Python,
// engine, the program's folder) may be there for a container that shares the folder, so that it is
// only stale, unless `gone_is_dead`.
cache::Standing Judge(const std::string& path, bool gone_is_dead);

// Prunes the cache folder as the maker of the image at `keep` does (which may be empty), or
// `thoroughly`: also of all whose Python or environment is gone.
cache::Result<cache::PruneOutcome> PruneCache(cache::FileEnv& env, const std::string& cache_folder,
                                              uint64_t max_bytes, const std::string& keep,
                                              bool thoroughly);

// Sets the time of last use of the image that `key` belongs to, at its first use and then once an
// hour. It is the key's modification time: the image's own stamps are proved by the key, and the
// access time changes with every look at the key.
void NoteUse(const std::string& key);
// Until then it is the image's: nobody has started from it yet.
void NoteUnused(const std::string& key);

// A checksum of all that the file holds; holes count as nothing, whoever made them. Nothing: it
// cannot be read.
std::optional<uint64_t> ContentHash(const std::string& path);
std::optional<uint64_t> ContentHash(int fd);
// Whether the table of the image that is open as `fd` is what `key` was written for.
bool TableIsWhole(int fd, const KeyHead& key);
// Shows each page that holds something, or what the file's end leaves of it, from the beginning on.
// False: `visit` was false, or it cannot be read.
bool ForEachPage(int fd, const std::function<bool(std::string_view page, uint64_t at)>& visit);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_COLLECTION_H_
