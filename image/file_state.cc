#include "image/file_state.h"

#include <fcntl.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <vector>

namespace pylaunch::image {
namespace {

// Of those that are mounted, ascending.
std::vector<uint64_t> OverlayDevices() {
  std::vector<uint64_t> devices;
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    unsigned major_number, minor_number;
    if (line.find(" - overlay ") == line.npos ||
        std::sscanf(line.c_str(), "%*d %*d %u:%u ", &major_number, &minor_number) != 2) {
      continue;
    }
    devices.push_back(makedev(major_number, minor_number));
  }
  std::sort(devices.begin(), devices.end());
  return devices;
}

}  // namespace

uint64_t LastingDevice(uint64_t device) {
  if (major(device) != 0) return device;
  static const std::vector<uint64_t>* const overlays = new std::vector(OverlayDevices());
  return std::binary_search(overlays->begin(), overlays->end(), device) ? 0 : device;
}

FileState StateOf(const struct stat& st) {
  FileState state = {cache::StatProofOf(st), {}};
  state.device = LastingDevice(state.device);
  return state;
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
