#ifndef PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_FOLDERS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_FOLDERS_H_

#include <sys/stat.h>

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cache/archive.h"
#include "cache/seal.h"

namespace pylaunch::engine {

// The names in a folder that an import can ask for: those without a dot (packages) and those with a
// module suffix.
class Folder {
 public:
  bool Contains(std::string_view name) const;
  // True if it has a name that a module or package called `stem` could have: `stem` itself, or
  // `stem` and a suffix.
  bool ContainsStem(std::string_view stem) const;

 private:
  friend class Folders;
  bool known_ = false;
  bool from_archive_ = false;
  cache::FolderStamp stamp_;
  int64_t read_at_ns_ = 0;
  cache::PackedNames archived_;
  std::vector<std::string> listed_;  // Sorted.
};

// What importlib's FileFinder keeps for each folder (its `_path_cache`), with the archive behind
// it: a folder is stat'ed at each use and listed only when neither memory nor archive has its names
// under the present stamp. Needs the GIL or a single thread.
class Folders {
 public:
  // `suffixes`: importlib.machinery.all_suffixes(). `archive` may be null and must outlive this.
  // `unasked`: what it says is true and not compared with the disk.
  void Init(std::vector<std::string> suffixes, const cache::Archive* archive, bool unasked);

  // The folder's present names; an absent or unreadable folder has none, as in
  // FileFinder._fill_cache. nullptr: an error that FileFinder would raise. Valid until the next
  // call for the same path. `just_stated`: what stat() of this path has said a moment ago, so that
  // it need not be asked again.
  const Folder* Get(const std::string& path, const struct stat* just_stated = nullptr);

  // What Get last gave for the path, or the archive has, without asking the disk: they may have
  // changed. Valid until the next call of any. nullptr: neither.
  const Folder* Last(const std::string& path);

  // True if the archive vouches for it that `path` is a folder.
  bool HoldsUnasked(const std::string& path) const;

  // Forgets all listings, the archive's too, unasked or not (importlib.invalidate_caches: the
  // caller knows of a change that stamps may not show).
  void Invalidate();

  // Every folder that was asked for.
  std::vector<std::string> Paths() const;

  // Folders that were listed here because the archive did not know them, and whose stamp will prove
  // them. Each is told once.
  std::vector<cache::FolderRecord> TakeNew();

 private:
  bool List(const std::string& path, Folder* folder) const;
  bool IsImportable(std::string_view name) const;

  std::vector<std::string> suffixes_;
  const cache::Archive* archive_ = nullptr;
  bool unasked_ = false;
  std::unordered_map<std::string, Folder> folders_;
  Folder unproved_;  // What Last gave.
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_FOLDERS_H_
