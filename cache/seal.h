#ifndef PYLAUNCH_CACHE_SEAL_H_
#define PYLAUNCH_CACHE_SEAL_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cache/error.h"
#include "cache/file_env.h"
#include "cache/prune.h"
#include "cache/stamp.h"

namespace pylaunch::cache {

// A module that a process loaded and the archive did not have under this stamp. Its code is in
// `frame` (compressed marshal data), or else still to be read from the .pyc at `pyc_path`: CPython
// wrote or accepted that one moments ago, and the sealer accepts it only if its header names the
// stamp's mtime and size, so it is what CPython would load next time. With neither, the process
// took the archive's own code because the source's digest proved it, and this is the new stamp.
struct ModuleRecord {
  std::string path;
  SourceStamp stamp;
  int64_t read_at_ns = 0;  // CLOCK_REALTIME when the stamp was taken, before the source was read.
  std::string pyc_path;
  std::string frame;
  uint32_t raw_size = 0;  // Of the frame's content; 0 without a frame.
  // The code was compiled from the source as stamped, and not taken from a .pyc, which may be of
  // other bytes of that time and size: then the digest of these bytes proves it, too.
  bool compiled = false;
};

// A folder whose names a process listed.
struct FolderRecord {
  std::string path;
  FolderStamp stamp;
  int64_t read_at_ns = 0;  // When the stamp was taken, before the listing.
  std::vector<std::string> names;
};

// What one process asks the sealer to add to an archive. Made in the process that ran Python,
// carried to `pylaunch-sealer` through a memfd, so that compressing and writing never hold the
// program up.
struct SealJob {
  std::string archive_path;
  BuildKey key;
  bool discard_existing = false;      // --cache-mode=refresh: start from nothing.
  uint64_t max_bytes = 0;             // Of the archive's folder; 0: no bound.
  std::vector<Holding> others;        // What lies there besides archives.
  std::vector<ModuleRecord> modules;  // In order of first use.
  std::vector<FolderRecord> folders;

  std::string Serialize() const;
  // kCorrupt: `bytes` is no serialized job.
  static Result<SealJob> Parse(std::string_view bytes);
};

struct SealOutcome {
  uint32_t added = 0;  // Modules and folders of the job that are now, and were not, in the archive.
  uint32_t kept = 0;   // Entries carried over from the archive that was there.
  uint32_t dropped = 0;  // Old entries whose source or folder is gone or has changed, and records
                         // that cannot be proved.
  bool written = false;  // False if the archive already had everything.
  bool delta = false;    // Only the file of additions was.
};

// Merges `job` into the archive under the writer's lock (`<archive>.lock`): the archive is read
// again under the lock, so that of 32 processes sealing at once none loses another's modules. New
// records win over old entries of the same path. Entries and records whose stamp does not match the
// disk are dropped, so that a process that read an old source and seals late does not bring it
// back; so are records not provable in the sense of IsProvable (for a folder, by the later of mtime
// and ctime), and those whose code is missing, damaged or not of that stamp. A stat that fails for
// another reason than a missing file drops nothing; an entry with a digest stays while the source
// is there.
//
// What little is new goes to a small file beside a large archive (DeltaPath), so that one module
// more does not rewrite all of it; the two become one again when the small one has grown to a
// quarter of the large one. Creates the archive's folder (mode 0700) if missing. A corrupt,
// untrusted or foreign archive is replaced. What was written may push other archives out of the
// folder (Prune). kBusy: the lock could not be had within ten seconds. kIo: nothing was changed.
Result<SealOutcome> Seal(FileEnv& env, const SealJob& job);

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_SEAL_H_
