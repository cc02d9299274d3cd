#ifndef PYLAUNCH_CACHE_MEMO_H_
#define PYLAUNCH_CACHE_MEMO_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/file_env.h"
#include "cache/stamp.h"

namespace pylaunch::cache {

// What a pure function over files once returned, with the stamp of every file and folder that the
// result depends on. An archive keeps it where it keeps code: as a module whose "path" is the
// memo's key and whose stamp is zero; the frame holds the memo.

// A memo's key begins with this, and no module's path does, since those are absolute.
inline constexpr std::string_view kMemoPrefix = "memo:";
inline bool IsMemoKey(std::string_view path) { return path.starts_with(kMemoPrefix); }

// A file or folder that a result depends on.
struct Dependency {
  std::string path;   // Absolute.
  SourceStamp stamp;  // Of a folder too.
};

struct Memo {
  std::vector<Dependency> files;
  std::string result;  // Bytes that mean nothing here.

  std::string Serialize() const;
  // Nothing: `bytes` is no serialized memo.
  static std::optional<Memo> Parse(std::string_view bytes);
};

// The proofs of `root` and of everything under it, entries named `skip` left out; symbolic links
// are followed. Nothing: something cannot be read, `limit` entries are not enough, or a stamp could
// not prove anything later (see IsProvable), because it was taken too soon after the change.
std::optional<std::vector<Dependency>> ProveTree(FileEnv& env, const std::string& root,
                                                 std::string_view skip, size_t limit);

// True if every file and folder is still what the stamps say. One stat an entry.
bool StillHolds(FileEnv& env, const std::vector<Dependency>& files);

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_MEMO_H_
