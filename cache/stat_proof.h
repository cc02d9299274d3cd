#ifndef PYLAUNCH_CACHE_STAT_PROOF_H_
#define PYLAUNCH_CACHE_STAT_PROOF_H_

#include <sys/stat.h>

#include <cstdint>

namespace pylaunch::cache {

constexpr int64_t NanosecondsOf(const timespec& time) {
  return static_cast<int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

// What stat(2) tells of a file that another file, or another state of it, has otherwise; all 0:
// there is none. The one place where a `struct stat` is read for that. What is gone by differs, and
// is taken from here: archives, which outlive a device number, have stamps (stamp.h); images, which
// hold for one boot, have all of it and rights (image/file_state.h); what a Python is is remembered
// without ctime (launcher/python_home).
struct StatProof {
  uint64_t device = 0, inode = 0, size = 0;
  int64_t mtime_ns = 0, ctime_ns = 0;
  bool operator==(const StatProof&) const = default;
};

inline StatProof StatProofOf(const struct stat& st) {
  return {.device = st.st_dev,
          .inode = st.st_ino,
          .size = static_cast<uint64_t>(st.st_size),
          .mtime_ns = NanosecondsOf(st.st_mtim),
          .ctime_ns = NanosecondsOf(st.st_ctim)};
}

// What a file is (a folder, a device), and who may do what with it. Only for what its ctime does
// not prove: names that come and go change a folder's.
struct Rights {
  uint32_t mode = 0, user = 0, group = 0;
  uint32_t unused = 0;  // So that all bytes are told.
  bool operator==(const Rights&) const = default;
};

inline Rights RightsOf(const struct stat& st) {
  return {.mode = st.st_mode, .user = st.st_uid, .group = st.st_gid};
}

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_STAT_PROOF_H_
