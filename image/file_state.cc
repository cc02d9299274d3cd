#include "image/file_state.h"

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

FileState StateOf(const std::string& path) {
  struct stat st;
  return stat(path.c_str(), &st) == 0 ? StateOf(st) : FileState();
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
