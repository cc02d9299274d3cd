#include "image/file_state.h"

#include <fcntl.h>

namespace pylaunch::image {
namespace {

int64_t Nanoseconds(const timespec& time) {
  return static_cast<int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

FileState StateOf(const struct stat& st) {
  return {st.st_dev, st.st_ino, static_cast<uint64_t>(st.st_size), Nanoseconds(st.st_mtim),
          Nanoseconds(st.st_ctim)};
}

bool DifferInCtimeAlone(const FileState& a, FileState b) {
  const bool differ = a.ctime_ns != b.ctime_ns;
  b.ctime_ns = a.ctime_ns;
  return differ && a == b;
}

FileState StateOf(const std::string& path) {
  struct stat st;
  return stat(path.c_str(), &st) == 0 ? StateOf(st) : FileState();
}

FileState AskedOf(const struct stat& st) {
  if (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode)) return StateOf(st);
  // No time, so that it never seems to be younger than an image.
  const uint64_t rights =
      uint64_t{st.st_mode} | uint64_t{st.st_uid} << 16 | uint64_t{st.st_gid} << 40;
  if (S_ISDIR(st.st_mode)) return {0, 0, rights, 0, 0};
  return {st.st_rdev, 0, rights, 0, 0};
}

FileState AskedOf(const std::string& path, bool link) {
  struct stat st;
  const int flags = link ? AT_SYMLINK_NOFOLLOW : 0;
  return fstatat(AT_FDCWD, path.c_str(), &st, flags) == 0 ? AskedOf(st) : FileState();
}

std::string Text(const FileState& s) {
  std::string text;
  for (const uint64_t part : {s.device, s.inode, s.size, static_cast<uint64_t>(s.mtime_ns),
                              static_cast<uint64_t>(s.ctime_ns)}) {
    text += std::to_string(part) + " ";
  }
  return text;
}

}  // namespace pylaunch::image
