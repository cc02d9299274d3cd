#ifndef PYLAUNCH_CACHE_ARCHIVE_READER_H_
#define PYLAUNCH_CACHE_ARCHIVE_READER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/archive_writer.h"
#include "cache/error.h"
#include "cache/file_env.h"
#include "cache/stamp.h"

namespace pylaunch::cache {

// A module's code object as one zstd frame of marshal data (what follows the 16 bytes of header in
// a .pyc).
struct ModuleEntry {
  std::string_view path;  // Absolute path of the source; valid as long as the reader.
  SourceStamp stamp;
  std::optional<SourceDigest> digest;  // Of the bytes that the code was compiled from, if known.
  uint64_t frame_offset = 0;
  uint64_t frame_check = 0;
  uint32_t frame_size = 0;
  uint32_t raw_size = 0;
  uint32_t order = 0;  // Rank of first use in the run that wrote it; frames lie in this order.
};

// The names in a folder that an import can ask for: sorted bytewise, in place. Valid as long as the
// reader.
class PackedNames {
 public:
  PackedNames() = default;
  // `offsets` has count + 1 little-endian uint32 offsets into `bytes`.
  PackedNames(const char* offsets, const char* bytes, uint32_t count)
      : offsets_(offsets), bytes_(bytes), count_(count) {}
  // Both O(log n), no allocation. LowerBound: the first that is not before `name`, or size().
  bool Contains(std::string_view name) const;
  uint32_t LowerBound(std::string_view name) const;
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
  PackedNames names;
};

// Reads one archive. The file is mapped once and never written; an archive that another process
// replaces (by rename) stays valid here until this object goes, one that is cut off or altered in
// place is met as damage: everything is copied before it is checked, and checked before it is used.
// One call at a time. Format: docs/archive.md.
class ArchiveReader {
 public:
  // Maps `path` and checks owner, mode, header, size and key, in constant time. What the index
  // holds is checked record by record when it is asked for (hashing all of it would take longer
  // than many a program), and frames when they are read: whatever the file's bytes are, no call
  // reads outside the mapping, and a damaged record is as good as absent. kNotFound: no such file.
  // kForeign: another build's archive, or another format version. kCorrupt: truncated or damaged.
  // kUntrusted: another user could have written it (trust.h), or no regular file. kIo: anything
  // else. Sets the file's time of last use, once an hour.
  static Result<std::unique_ptr<ArchiveReader>> Open(FileEnv& env, const std::string& path,
                                                     const BuildKey& key);
  // The same without a key to compare, but with the checksums of all sections: for tools and for
  // those who are about to copy it. `key_text()` tells whose it is.
  static Result<std::unique_ptr<ArchiveReader>> OpenAny(FileEnv& env, const std::string& path);

  ~ArchiveReader();
  ArchiveReader(const ArchiveReader&) = delete;
  ArchiveReader& operator=(const ArchiveReader&) = delete;

  // O(log n). I/O only for what of the index was not looked at before.
  std::optional<ModuleEntry> FindModule(std::string_view path) const;
  std::optional<FolderEntry> FindFolder(std::string_view path) const;
  // True once a look-up has met damage, be it that it made an entry seem absent.
  bool damaged() const;
  // True if the checksums of all sections are right. Reads them all.
  bool IndexIntact() const;

  // Decompresses the code of `entry` into `out` (resized to raw_size). kCorrupt: the frame is not
  // the one that was written with this entry, byte for byte.
  Result<void> ReadCode(const ModuleEntry& entry, std::string* out) const;
  // The compressed frame, checked, for copying into another archive; valid until the next call.
  Result<std::string_view> Frame(const ModuleEntry& entry) const;

  // What AddBlock has given `block` for. kCorrupt: that is not there, byte for byte.
  Result<void> ReadBlock(const Block& block, std::string* out) const;
  // A section that this class knows nothing of, checked; nullopt: none or damaged. Valid as long as
  // the reader.
  std::optional<std::string_view> Section(uint32_t tag) const;

  uint32_t module_count() const;
  uint32_t folder_count() const;
  // In the order of their hashes; a damaged entry has an empty path. REQUIRES: i < module_count().
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
