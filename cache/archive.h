#ifndef PYLAUNCH_CACHE_ARCHIVE_H_
#define PYLAUNCH_CACHE_ARCHIVE_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "cache/archive_reader.h"
#include "cache/error.h"
#include "cache/file_env.h"
#include "cache/stamp.h"

namespace pylaunch::cache {

// Where the additions to the archive at `path` lie.
std::string DeltaPath(const std::string& path);

// What a start reads: the archive, and the small file of what was added since it was written. Both
// have one format, and every entry is proved by its own stamp, so that the two need not be of one
// time. One call at a time.
class Archive {
 public:
  struct Module {
    ModuleEntry entry;
    const ArchiveReader* in = nullptr;
  };

  // Errors as in ArchiveReader::Open; kNotFound: neither file is there. An unusable file of
  // additions is an error, too: both are to be replaced.
  static Result<std::unique_ptr<Archive>> Open(FileEnv& env, const std::string& path,
                                               const BuildKey& key);

  std::optional<Module> FindModule(std::string_view path) const;
  std::optional<FolderEntry> FindFolder(std::string_view path) const;
  // See ArchiveReader::damaged.
  bool damaged() const;
  uint32_t module_count() const;
  uint32_t folder_count() const;

 private:
  std::unique_ptr<ArchiveReader> base_, delta_;  // Not both null.
};

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_ARCHIVE_H_
