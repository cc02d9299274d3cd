#include "image/file_state.h"

#include <fcntl.h>

namespace pylaunch::image {

FileState StateOf(const struct stat& st) { return {cache::StatProofOf(st), {}}; }

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
  FileState state;  // No time, so that it never seems to be younger than an image.
  state.rights = cache::RightsOf(st);
  if (!S_ISDIR(st.st_mode)) state.device = st.st_rdev;
  return state;
}

FileState AskedOf(const std::string& path, bool link) {
  struct stat st;
  const int flags = link ? AT_SYMLINK_NOFOLLOW : 0;
  return fstatat(AT_FDCWD, path.c_str(), &st, flags) == 0 ? AskedOf(st) : FileState();
}

std::string Text(const FileState& s) {
  std::string text;
  for (const uint64_t part : {s.device, s.inode, s.size, static_cast<uint64_t>(s.mtime_ns),
                              static_cast<uint64_t>(s.ctime_ns), uint64_t{s.rights.mode},
                              uint64_t{s.rights.user}, uint64_t{s.rights.group}}) {
    text += std::to_string(part) + " ";
  }
  return text;
}

}  // namespace pylaunch::image
