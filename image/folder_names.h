#ifndef PYLAUNCH_IMAGE_FOLDER_NAMES_H_
#define PYLAUNCH_IMAGE_FOLDER_NAMES_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "image/file_state.h"

// What is proved of a folder that modules were looked for in, or that was listed.

namespace pylaunch::image {

// True for a name in a folder that an import could ask for.
bool IsImportable(std::string_view name);

// Hashes of the names in a folder, but __pycache__; 0: it cannot be read.
struct FolderNames {
  uint64_t all = 0;
  uint64_t importable = 0;  // Of those alone that an import can ask for.
  bool operator==(const FolderNames&) const = default;
};
FolderNames NamesIn(const std::string& path);

// A folder that modules were looked for in. Results that programs write there change its state, but
// what imports find only if a name that an import can ask for comes or goes; `names` is a hash of
// these. Of `state` the rights must be so in any case; the rest, where it is so, saves the look at
// the names.
struct FolderProof {
  std::string path;
  FileState state;
  uint64_t names = 0;
  bool all = false;  // Somebody listed it: every name counts.
};
// `read_at_ns`: CLOCK_REALTIME.
FolderProof ProveFolder(const std::string& path, int64_t read_at_ns, bool all);
// What is not as it was, in words: "/a", "the names in /a". Empty: all is.
std::string ChangeOf(const FolderProof& proof);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_FOLDER_NAMES_H_
