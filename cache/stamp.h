#ifndef PYLAUNCH_CACHE_STAMP_H_
#define PYLAUNCH_CACHE_STAMP_H_

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "cache/stat_proof.h"

namespace pylaunch::cache {

// Identifies one state of a source file: what of its StatProof an archive keeps. Modification time
// and size are what CPython's own .pyc files go by (PEP 3147, importlib's
// `SourceLoader.path_stats`); here in nanoseconds. They are not enough for "never wrong":
// reproducible builds and image layers give all files one time, and then two folders can be swapped
// unseen. So also the inode, which moves with a file, and ctime, which nobody can set. The price:
// where uv hard-links packages from its cache, making another environment changes ctime, and the
// modules are read and kept anew. No device: its number changes from boot to boot.
struct SourceStamp {
  int64_t mtime_ns = 0;
  uint64_t size = 0;
  int64_t ctime_ns = 0;
  uint64_t inode = 0;
  bool operator==(const SourceStamp&) const = default;
};

// Identifies one state of a folder's list of names. ctime cannot be set back by utimensat(2), as
// archivers and rsync do with mtime; folders are never hard-linked, so ctime and inode are stable.
struct FolderStamp {
  int64_t mtime_ns = 0;
  int64_t ctime_ns = 0;
  uint64_t inode = 0;
  bool operator==(const FolderStamp&) const = default;
};

// Identifies a source by its bytes, for archives that travel between hosts and image layers, and
// for checkouts whose times and inodes change with every branch. XXH3-128.
struct SourceDigest {
  uint64_t low = 0;
  uint64_t high = 0;
  bool operator==(const SourceDigest&) const = default;
};

SourceDigest DigestOf(std::string_view source);

// The later of the times of last use and of last change, CLOCK_REALTIME.
int64_t LastUseNs(const struct stat& st);

SourceStamp SourceStampOf(const struct stat& st);
FolderStamp FolderStampOf(const struct stat& st);

// File systems stamp changes with a coarse clock, so that two changes in one tick look the same. A
// stamp proves later states only if it was already this old when the state was read (git calls the
// rest "racily clean"). Two seconds cover FAT and NFS.
inline constexpr int64_t kRacyWindowNs = 2'000'000'000;

// True if a state stamped `mtime_ns` and read at `read_at_ns` (both CLOCK_REALTIME) may be proved
// by its stamp later. A stamp from the future proves nothing.
constexpr bool IsProvable(int64_t mtime_ns, int64_t read_at_ns) {
  return read_at_ns - mtime_ns > kRacyWindowNs;
}

// What an archive was made for. Equal keys: the same interpreter build, bytecode magic,
// optimisation level and environment.
struct BuildKey {
  std::string python;       // Py_GetVersion(), one line: version, build date, compiler.
  std::string environment;  // sys.prefix.
  uint32_t magic = 0;       // importlib.util.MAGIC_NUMBER as a little-endian integer.
  int optimize = 0;         // sys.flags.optimize: 0, 1 or 2.

  // One line for people and for comparison: all parts, no newline.
  std::string Text() const;
  // The archive's file name: readable version, then 16 hex digits of the text's hash, then ".pla".
  std::string FileName() const;
};

// The environment that stands in a BuildKey's Text(); empty if `text` is none.
std::string EnvironmentOf(std::string_view text);

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_STAMP_H_
