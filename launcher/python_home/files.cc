#include "launcher/python_home/files.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "cache/descriptor.h"
#include "cache/stat_proof.h"
#include "launcher/contract/program_loader.h"
#include "launcher/contract/text.h"

#define XXH_INLINE_ALL
#include "xxhash.h"

namespace pylaunch::home {

std::string Folder(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == path.npos || slash == 0 ? "/" : path.substr(0, slash);
}

std::string WorkingDirectory() {
  char buffer[PATH_MAX];
  return getcwd(buffer, sizeof buffer) != nullptr ? buffer : "";
}

std::string Absolute(std::string_view path) {
  if (path.starts_with('/')) return std::string(path);
  const std::string here = WorkingDirectory();
  return here.empty() ? "" : Cat(here, here == "/" ? "" : "/", path);
}

std::optional<FileState> Look(const std::string& path) {
  struct stat state;
  if (path.empty() || stat(path.c_str(), &state) != 0) return std::nullopt;
  const cache::StatProof proof = cache::StatProofOf(state);
  return FileState{{{static_cast<int64_t>(proof.device), static_cast<int64_t>(proof.inode),
                     static_cast<int64_t>(proof.size), proof.mtime_ns}},
                   state.st_mode};
}

std::optional<std::string> ReadUpTo(int fd, size_t limit) {
  std::string text(limit, '\0');
  size_t size = 0;
  while (size < limit) {
    const ssize_t got = read(fd, text.data() + size, limit - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::nullopt;
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  text.resize(size);
  return text;
}

std::optional<std::string> ReadStart(const std::string& path, size_t limit) {
  const cache::Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  return file.ok() ? ReadUpTo(file.get(), limit) : std::nullopt;
}

std::optional<std::string> LoaderOf(const std::string& path) {
  const std::optional<std::string> start = ReadStart(path, kProgramStart);
  if (!start.has_value() || !IsElf(start->data(), start->size())) return std::nullopt;
  const char* loader = ProgramLoader(start->data(), start->size());
  return loader == nullptr ? "" : loader;
}

std::string Digest(std::string_view text) {
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  char hex[33];
  std::snprintf(hex, sizeof hex, "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return hex;
}

}  // namespace pylaunch::home
