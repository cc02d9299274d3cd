#include "image/content_digest.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "cache/descriptor.h"
#define XXH_INLINE_ALL
#include "xxhash.h"

namespace pylaunch::image {
namespace {

constexpr size_t kEnds = 64 << 10;
constexpr uint64_t kWorthEnds = 1 << 20;
constexpr size_t kChunk = 1 << 20;
// Shorter ones are not a digest of what was linked (ld's 0xHEX and uuid styles have 16 and more).
constexpr uint32_t kLeastId = 16;

template <typename T>
bool ReadAt(std::string_view bytes, uint64_t at, T* value) {
  if (at > bytes.size() || bytes.size() - at < sizeof *value) return false;
  std::memcpy(value, bytes.data() + at, sizeof *value);
  return true;
}

bool HasIdIn(std::string_view notes) {
  Elf64_Nhdr note;
  for (uint64_t at = 0; ReadAt(notes, at, &note);) {
    const auto padded = [](uint64_t size) { return (size + 3) & ~uint64_t{3}; };
    const uint64_t name = at + sizeof note;
    const bool gnu = note.n_namesz == 4 && name + 4 <= notes.size() &&
                     notes.substr(name, 4) == std::string_view("GNU", 4);
    if (gnu && note.n_type == NT_GNU_BUILD_ID) return note.n_descsz >= kLeastId;
    at = name + padded(note.n_namesz) + padded(note.n_descsz);
  }
  return false;
}

// `head`: the first kEnds of a file. Its id must stand there (elf(5)).
bool HasBuildId(std::string_view head) {
  Elf64_Ehdr elf;
  if (!ReadAt(head, 0, &elf) || std::memcmp(elf.e_ident, ELFMAG, SELFMAG) != 0 ||
      elf.e_ident[EI_CLASS] != ELFCLASS64) {
    return false;
  }
  for (uint64_t i = 0; i < elf.e_phnum; ++i) {
    Elf64_Phdr segment;
    if (!ReadAt(head, elf.e_phoff + i * elf.e_phentsize, &segment)) return false;
    if (segment.p_type != PT_NOTE || segment.p_offset > head.size()) continue;
    if (HasIdIn(head.substr(segment.p_offset, segment.p_filesz))) return true;
  }
  return false;
}

bool ReadFully(int fd, char* to, size_t size, uint64_t at) {
  for (size_t done = 0; done < size;) {
    const ssize_t n = pread(fd, to + done, size - done, static_cast<off_t>(at + done));
    if (n <= 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}

class Digester {
 public:
  // `most`: what is added at once.
  explicit Digester(size_t most)
      : most_(std::clamp<size_t>(most, 1, kChunk)),
        buffer_(std::make_unique_for_overwrite<char[]>(most_)) {
    XXH3_128bits_reset(&state_);
  }
  bool Add(int fd, uint64_t begin, uint64_t end) {
    for (uint64_t at = begin; at < end;) {
      const size_t size = std::min<uint64_t>(most_, end - at);
      if (!ReadFully(fd, buffer_.get(), size, at)) return false;
      Add({buffer_.get(), size});
      at += size;
    }
    return true;
  }
  void Add(std::string_view bytes) { XXH3_128bits_update(&state_, bytes.data(), bytes.size()); }
  cache::SourceDigest Take() const {
    const XXH128_hash_t hash = XXH3_128bits_digest(&state_);
    return {hash.low64, hash.high64};
  }

 private:
  XXH3_state_t state_;
  const size_t most_;
  const std::unique_ptr<char[]> buffer_;
};

std::optional<cache::SourceDigest> LinkDigest(const std::string& path) {
  char text[PATH_MAX];
  const ssize_t n = readlink(path.c_str(), text, sizeof text);
  if (n < 0) return std::nullopt;
  return cache::DigestOf({text, static_cast<size_t>(n)});
}

}  // namespace

std::optional<cache::SourceDigest> ContentDigest(const std::string& path, bool link) {
  struct stat st;
  if (link && lstat(path.c_str(), &st) == 0 && S_ISLNK(st.st_mode)) return LinkDigest(path);
  // A pipe that has taken the file's place would never let go of who opens it.
  const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
  const cache::Descriptor file(open(path.c_str(), flags));
  if (!file.ok() || fstat(file.get(), &st) != 0 || !S_ISREG(st.st_mode)) return std::nullopt;
  const auto size = static_cast<uint64_t>(st.st_size);
  Digester digester(size);
  if (size > kWorthEnds) {
    std::string head(kEnds, '\0');
    if (!ReadFully(file.get(), head.data(), kEnds, 0)) return std::nullopt;
    if (HasBuildId(head)) {
      digester.Add(head);
      if (!digester.Add(file.get(), size - kEnds, size)) return std::nullopt;
      return digester.Take();
    }
  }
  if (!digester.Add(file.get(), 0, size)) return std::nullopt;
  return digester.Take();
}

bool HasContent(const FileState& state) {
  return state != FileState() && state.rights == cache::Rights();
}

}  // namespace pylaunch::image
