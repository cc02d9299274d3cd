#include "image/own_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "cache/file_env.h"
#include "cache/trust.h"

namespace pylaunch::image {

bool IsOwn(const struct stat& st, const std::string& path) {
  return (st.st_uid == geteuid() || st.st_uid == 0) &&
         cache::WhyNotTrusted(cache::PosixFileEnv(), st, path).empty();
}

cache::Descriptor OpenOwn(const std::string& path, struct stat* st) {
  cache::Descriptor file(open(path.c_str(), O_RDONLY | O_NOFOLLOW));
  if (!file.ok()) return file;
  if (fstat(file.get(), st) == 0 && S_ISREG(st->st_mode) && IsOwn(*st, path)) return file;
  file.Close();
  errno = EPERM;
  return file;
}

void LetOthersRead(const std::string& path) {
  struct stat st;
  if (stat(path.c_str(), &st) != 0) return;
  (void)chmod(path.c_str(), (st.st_mode & 07777) | (S_ISDIR(st.st_mode) ? 0755 : 0644));
}

}  // namespace pylaunch::image
