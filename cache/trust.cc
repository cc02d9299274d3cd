#include "cache/trust.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <iterator>
#include <sstream>

#include "cache/descriptor.h"

namespace pylaunch::cache {
namespace {

constexpr uid_t kUsualOverflow = 65534;  // DEFAULT_OVERFLOWUID, include/linux/highuid.h.

std::string ReadProc(const char* path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// Only the owner may ask for O_NOATIME (open(2)), whatever the owner's id looks like from here.
bool IsOwner(const std::string& path, const struct stat& st) {
  const Descriptor file(
      open(path.c_str(), O_RDONLY | O_NOATIME | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat opened;
  return file.ok() && fstat(file.get(), &opened) == 0 && opened.st_dev == st.st_dev &&
         opened.st_ino == st.st_ino;
}

// False where there is no /proc to ask.
bool StandsForAllThatAreNotMapped(uid_t uid) {
  std::istringstream overflow(ReadProc("/proc/sys/kernel/overflowuid"));
  uid_t known = kUsualOverflow;
  overflow >> known;
  const std::string map = ReadProc("/proc/self/uid_map");
  return uid == known && access("/proc/self/uid_map", R_OK) == 0 && !IsMapped(map, uid);
}

// Empty: none.
std::string WritableFolderOf(FileEnv& env, const std::string& path) {
  char real[PATH_MAX];
  std::string folder = FolderOf(path);
  if (realpath(folder.c_str(), real) == nullptr) return folder;
  for (folder = real;; folder = FolderOf(folder)) {
    const auto st = env.Stat(folder);
    if (!st || (st->st_mode & (S_IWGRP | S_IWOTH)) != 0) return folder;
    if (folder == "/") return "";
  }
}

}  // namespace

bool IsMapped(std::string_view uid_map, uid_t uid) {
  std::istringstream lines{std::string(uid_map)};
  for (uint64_t inside, outside, count; lines >> inside >> outside >> count;) {
    if (uid >= inside && uid - inside < count) return true;
  }
  return false;
}

std::string WhyNotTrusted(FileEnv& env, const struct stat& st, const std::string& path) {
  if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0) return "is writable by others";
  if (st.st_uid == 0) return "";
  if (st.st_uid == geteuid() && (st.st_uid != kUsualOverflow || IsOwner(path, st))) return "";
  if (!StandsForAllThatAreNotMapped(st.st_uid)) return "belongs to another user";
  const std::string writable = WritableFolderOf(env, path);
  if (writable.empty()) return "";
  return "belongs to a user that this user namespace does not know, and others can write " +
         writable;
}

}  // namespace pylaunch::cache
