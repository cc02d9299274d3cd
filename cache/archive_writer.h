#ifndef PYLAUNCH_CACHE_ARCHIVE_WRITER_H_
#define PYLAUNCH_CACHE_ARCHIVE_WRITER_H_

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

// Bytes in an archive that are no module's (ArchiveWriter::AddBlock).
struct Block {
  uint64_t offset = 0;  // Of their frame.
  uint64_t check = 0;   // Likewise.
  uint32_t size = 0;    // Likewise.
  uint32_t raw_size = 0;
};

// Builds one archive: Create, Add…, then Finish or Abandon (which the destructor does). Nothing is
// visible under `path` before Finish has renamed the complete, synced file into place; the file has
// mode 0600. Not thread-safe.
class ArchiveWriter {
 public:
  // Creates the temporary file beside `path`, whose folder must exist. kIo: it cannot be created.
  static Result<std::unique_ptr<ArchiveWriter>> Create(FileEnv& env, const std::string& path,
                                                       const BuildKey& key);
  ~ArchiveWriter();

  // Adds a module's marshal data, compressing it. Modules keep the order in which they are added.
  // Adding a path twice is a programming error (the first one wins at Finish). kIo: writing failed;
  // only Abandon may follow.
  // `digest`: of the source's bytes, if it is they that were compiled.
  Result<void> AddModule(std::string_view path, const SourceStamp& stamp,
                         const std::optional<SourceDigest>& digest, std::string_view code);
  // The same with an already compressed frame.
  Result<void> AddFrame(std::string_view path, const SourceStamp& stamp,
                        const std::optional<SourceDigest>& digest, std::string_view frame,
                        uint32_t raw_size);
  // `names` need not be sorted.
  void AddFolder(std::string_view path, const FolderStamp& stamp, std::vector<std::string> names);

  // Bytes of the caller's own, compressed, of 1 GiB at most. Where they lie, a section of the
  // caller's must tell. kIo: as AddModule.
  Result<Block> AddBlock(std::string_view bytes);
  // A section of the caller's own format and tag, which must be new.
  void AddSection(uint32_t tag, std::string bytes);

  // Writes index and header, fsyncs, renames, fsyncs the folder. After an error the old archive is
  // still there, whole.
  Result<void> Finish();
  void Abandon();

 private:
  struct Rep;
  explicit ArchiveWriter(std::unique_ptr<Rep> rep);
  std::unique_ptr<Rep> rep_;
};

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_ARCHIVE_WRITER_H_
