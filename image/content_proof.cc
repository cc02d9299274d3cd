#include "image/content_proof.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
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

std::optional<cache::SourceDigest> BytesDigest(int fd, uint64_t size) {
  Digester digester(size);
  if (size > kWorthEnds) {
    // Nothing is read ahead of what is asked for; of hundreds of libraries that would be most.
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    std::string head(kEnds, '\0');
    if (!ReadFully(fd, head.data(), kEnds, 0)) return std::nullopt;
    if (HasBuildId(head)) {
      digester.Add(head);
      if (!digester.Add(fd, size - kEnds, size)) return std::nullopt;
      return digester.Take();
    }
    posix_fadvise(fd, 0, 0, POSIX_FADV_NORMAL);
  }
  if (!digester.Add(fd, 0, size)) return std::nullopt;
  return digester.Take();
}

// The order in which a file system lists them is its own.
uint64_t AttributesOf(int fd) {
  char names[1 << 12];
  const ssize_t size = flistxattr(fd, names, sizeof names);
  if (size <= 0) return size < 0 && errno == ERANGE ? 1 : 0;  // Nobody knows such a file.
  uint64_t sum = 0;
  for (std::string_view rest(names, static_cast<size_t>(size)); !rest.empty();) {
    const std::string name(rest.substr(0, rest.find('\0')));
    rest.remove_prefix(std::min(rest.size(), name.size() + 1));
    if (!name.starts_with("user.") && name != "system.posix_acl_access") continue;
    std::string value(1 << 16, '\0');  // XATTR_SIZE_MAX
    const ssize_t n = fgetxattr(fd, name.c_str(), value.data(), value.size());
    value.resize(n > 0 ? static_cast<size_t>(n) : 0);
    const std::string text = name + '=' + value;
    sum += XXH3_64bits(text.data(), text.size());
  }
  return sum;
}

}  // namespace

std::optional<ContentProof> ContentProofOf(const std::string& path, bool link) {
  struct stat st;
  ContentProof proof;
  std::optional<cache::SourceDigest> bytes;
  if (link && lstat(path.c_str(), &st) == 0 && S_ISLNK(st.st_mode)) {
    bytes = LinkDigest(path);
  } else {
    // A pipe that has taken the file's place would never let go of who opens it.
    const cache::Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file.ok() || fstat(file.get(), &st) != 0 || !S_ISREG(st.st_mode)) return std::nullopt;
    bytes = BytesDigest(file.get(), static_cast<uint64_t>(st.st_size));
    proof.attributes = AttributesOf(file.get());
  }
  if (!bytes) return std::nullopt;
  proof.bytes = *bytes;
  proof.rights = cache::RightsOf(st);
  return proof;
}

bool HasContent(const FileState& state) {
  return state != FileState() && state.rights == cache::Rights();
}

}  // namespace pylaunch::image
