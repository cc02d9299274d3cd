#ifndef PYLAUNCH_CACHE_TRANSFER_H_
#define PYLAUNCH_CACHE_TRANSFER_H_

#include <cstdint>
#include <functional>
#include <string>

#include "cache/archive_reader.h"
#include "cache/archive_writer.h"
#include "cache/error.h"
#include "cache/file_env.h"
#include "cache/stamp.h"

// Moving what an archive holds to another host, another image layer, or after `rm -r` back: one
// file of the archive's own format (archive.md).

namespace pylaunch::cache {

struct TransferOutcome {
  uint32_t modules = 0;  // Export: in the file. Import: of it, now in the archive.
  uint32_t portable =
      0;  // Of these: proved by a digest too, so that they hold where stamps differ.
  uint32_t folders = 0;
  uint32_t kept =
      0;  // Import: own modules and folders, which still hold, that stayed as they were.
  uint64_t bytes = 0;  // Of the file.
};

// What else goes into the file, in blocks, and the tag of the section that tells where they lie
// (image/transfer.h).
inline constexpr uint32_t kCargoTag = 6;
using LoadCargo = std::function<Result<void>(ArchiveWriter* to)>;
// Checks all of it, and changes nothing. Its errors need not name the file, but kIo.
using CheckCargo = std::function<Result<void>(const ArchiveReader& from)>;

// Writes the archive at `archive`, with its additions, to `file`, which appears or is replaced when
// it is whole, with mode 0600. Errors of the archive as in ArchiveReader::Open; a damaged entry is
// kCorrupt, and nothing is written.
Result<TransferOutcome> Export(FileEnv& env, const std::string& archive, const BuildKey& key,
                               const std::string& file, const LoadCargo& load = {});

// Adds what is in `file` to the archive at `archive` (made, with its folder, if there is none),
// under its writer's lock. Own entries win if the disk proves them. First all of `file` is read:
// one damaged byte, and nothing changes (kCorrupt). kForeign: it is for another Python or
// environment, or another format. kUntrusted: somebody else than this user and root could have
// written it. `replace`: what is there does not count.
Result<TransferOutcome> Import(FileEnv& env, const std::string& file, const BuildKey& key,
                               const std::string& archive, bool replace,
                               const CheckCargo& check = {});

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_TRANSFER_H_
