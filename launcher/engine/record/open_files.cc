#include "launcher/engine/record/open_files.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <fstream>

#include "launcher/engine/record/kernel_state.h"

namespace pylaunch::engine {
namespace {

// What the kernel makes up while it is read.
bool IsKernelFile(int fd) {
  struct statfs system;
  return fstatfs(fd, &system) != 0 || system.f_type == PROC_SUPER_MAGIC ||
         system.f_type == SYSFS_MAGIC || system.f_type == CGROUP_SUPER_MAGIC ||
         system.f_type == CGROUP2_SUPER_MAGIC;
}

// flock(2), fcntl(2), leases: proc(5), /proc/pid/fdinfo.
bool IsLocked(int fd) {
  std::ifstream info("/proc/self/fdinfo/" + std::to_string(fd));
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("lock:")) return true;
  }
  return !info.eof();
}

bool LeadsTo(const std::string& path, const struct stat& opened) {
  struct stat st;
  return !path.empty() && path[0] == '/' && stat(path.c_str(), &st) == 0 &&
         st.st_dev == opened.st_dev && st.st_ino == opened.st_ino;
}

}  // namespace

std::optional<OpenFile> ReopenableFile(int fd) {
  struct stat st;
  if (fd <= STDERR_FILENO || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return std::nullopt;
  OpenFile file;
  file.fd = fd;
  file.flags = fcntl(fd, F_GETFL);
  file.descriptor_flags = fcntl(fd, F_GETFD);
  file.at = lseek(fd, 0, SEEK_CUR);
  file.path = LinkAt("/proc/self/fd/" + std::to_string(fd));
  const bool only_read = file.flags >= 0 && (file.flags & (O_ACCMODE | O_PATH)) == O_RDONLY;
  if (!only_read || IsKernelFile(fd) || IsLocked(fd) || !LeadsTo(file.path, st))
    return std::nullopt;
  return file;
}

std::vector<OpenFile> FilesLeftOpen(const std::map<int, std::string>& before,
                                    const std::map<int, std::string>& descriptors) {
  std::vector<OpenFile> files;
  for (const auto& [fd, path] : descriptors) {
    if (before.contains(fd)) continue;
    if (std::optional<OpenFile> file = ReopenableFile(fd)) files.push_back(*std::move(file));
  }
  return files;
}

bool Reopen(const OpenFile& file) {
  const int fd = open(file.path.c_str(), file.flags | O_CLOEXEC | O_NOCTTY);
  if (fd < 0 || lseek(fd, file.at, SEEK_SET) < 0) return false;
  if (fd == file.fd) return fcntl(fd, F_SETFD, file.descriptor_flags) == 0;
  const bool done = dup3(fd, file.fd, file.descriptor_flags != 0 ? O_CLOEXEC : 0) >= 0;
  close(fd);
  return done;
}

}  // namespace pylaunch::engine
