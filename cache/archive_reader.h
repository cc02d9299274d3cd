#ifndef PYLAUNCH_CACHE_ARCHIVE_READER_H_
#define PYLAUNCH_CACHE_ARCHIVE_READER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/error.h"
#include "cache/file_env.h"
#include "cache/stamp.h"

namespace pylaunch::cache {

// A module's code object as one zstd frame of marshal data (what follows the 16 bytes of header in
// a .pyc).
struct ModuleEntry {
  std::string_view path;  // Absolute path of the source; points into the archive.
  SourceStamp stamp;
  uint64_t frame_offset = 0;
  uint32_t frame_size = 0;
  uint32_t raw_size = 0;
  uint32_t order = 0;  // Rank of first use in the run that wrote it; frames lie in this order.
};

// The names in a folder that an import can ask for: sorted bytewise, in place. Valid as long as the
// reader.
class NameList {
 public:
  NameList() = default;
  // `offsets` has count + 1 little-endian uint32 offsets into `bytes`.
  NameList(const char* offsets, const char* bytes, uint32_t count)
      : offsets_(offsets), bytes_(bytes), count_(count) {}
  // O(log n), no allocation.
  bool Contains(std::string_view name) const;
  uint32_t size() const { return count_; }
  std::string_view operator[](uint32_t i) const;

 private:
  const char* offsets_ = nullptr;
  const char* bytes_ = nullptr;
  uint32_t count_ = 0;
};

struct FolderEntry {
  std::string_view path;
  FolderStamp stamp;
  NameList names;
};

// Reads one archive. The file is mapped once and never written; an archive that another process
// replaces (by rename) stays valid here until this object goes. Const methods may be called from
// any thread. Format: cache/FORMAT.md.
class ArchiveReader {
 public:
  // Maps `path` and checks owner, mode, header, size and key, in constant time. What the index
  // holds is checked entry by entry when it is asked for (hashing all of it would take longer than
  // many a program), and frames when they are read: whatever the file's bytes are, no call reads
  // outside the mapping, and a damaged entry is as good as absent. kNotFound: no such file.
  // kForeign: another build's archive, or another format version. kCorrupt: truncated or damaged.
  // kUntrusted: not owned by the effective user or root, writable by group or others, or no regular
  // file. kIo: anything else.
  static Result<std::unique_ptr<ArchiveReader>> Open(FileEnv& env, const std::string& path,
                                                     const BuildKey& key);
  // The same without a key to compare, but with the checksum of the whole index: for --stats and
  // tools. `key_text()` tells whose it is.
  static Result<std::unique_ptr<ArchiveReader>> OpenAny(FileEnv& env, const std::string& path);

  ~ArchiveReader();
  ArchiveReader(const ArchiveReader&) = delete;
  ArchiveReader& operator=(const ArchiveReader&) = delete;

  // O(log n), no allocation, no I/O beyond page faults.
  std::optional<ModuleEntry> FindModule(std::string_view path) const;
  std::optional<FolderEntry> FindFolder(std::string_view path) const;

  // Decompresses the code of `entry` into `out` (resized to raw_size). kCorrupt: the frame does not
  // decompress to raw_size bytes with a right checksum. One call at a time a reader (the
  // decompression context is reused).
  Result<void> ReadCode(const ModuleEntry& entry, std::string* out) const;
  // The compressed frame, for copying into another archive; not checked. Empty: outside the file.
  std::string_view Frame(const ModuleEntry& entry) const;

  uint32_t module_count() const;
  uint32_t folder_count() const;
  // In index order; a damaged entry has an empty path. REQUIRES: i < module_count().
  ModuleEntry module(uint32_t i) const;
  FolderEntry folder(uint32_t i) const;  // REQUIRES: i < folder_count().
  uint64_t file_size() const;
  int64_t created_ns() const;  // CLOCK_REALTIME.
  std::string_view key_text() const;

 private:
  struct Rep;
  explicit ArchiveReader(std::unique_ptr<Rep> rep);
  std::unique_ptr<Rep> rep_;
};

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_ARCHIVE_READER_H_
