#ifndef PYLAUNCH_IMAGE_HOLDINGS_H_
#define PYLAUNCH_IMAGE_HOLDINGS_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cache/error.h"
#include "cache/file_env.h"
#include "cache/prune.h"

namespace pylaunch::image {

struct HoldingsQuery {
  std::string cache_folder;
  // What is known of an image; empty: nothing.
  std::function<cache::Standing(const std::string& image)> judge;
  std::optional<bool> on_network;  // Nothing: as the folder's file system tells.
};

// What this user's images hold (root: everybody's), for cache::Prune: each with its key and note,
// its last use being the key's mtime. And what killed writers left: temporary files and halves of
// images after an hour, notes and NAME.late after a week. Of an image only the name goes, and who
// runs from it keeps it; but not so on another host. So on a network's file system only images may
// go that are of this boot and that nobody has adopted, and those that were not used for a month. None if there is no folder. kIo:
// it cannot be listed.
cache::Result<std::vector<cache::Holding>> HoldingsOf(cache::FileEnv& env,
                                                      const HoldingsQuery& query);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_HOLDINGS_H_
