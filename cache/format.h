#ifndef PYLAUNCH_CACHE_FORMAT_H_
#define PYLAUNCH_CACHE_FORMAT_H_

// The archive's bytes as C++ sees them; private to this library and its tests. Prose and reasons
// are in cache/FORMAT.md. The structs are copied in and out with memcpy, never pointed at: fields
// of a mapped file may lie at any address.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace pylaunch::cache::format {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

inline constexpr char kMagic[8] = {'\x89', 'P', 'L', 'A', '\r', '\n', '\x1a', '\n'};
inline constexpr uint32_t kVersion = 1;

// No code object comes near; a damaged size must not make us allocate what the machine lacks.
inline constexpr uint32_t kMaxRawSize = uint32_t{1} << 30;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t header_size;  // Of this struct.
  uint64_t file_size;
  uint64_t index_offset;
  uint64_t index_size;
  uint64_t index_checksum;  // Of all index bytes; checked by OpenAny only.
  uint64_t key_digest;      // Of the key's text.
  int64_t created_ns;
  uint32_t module_count;
  uint32_t folder_count;
  uint32_t slot_count;  // Name offsets of all folders.
  uint32_t pool_size;
  uint32_t key_size;  // The key's text is the first string of the pool.
  uint32_t reserved[9];
  uint64_t checksum;  // Of all bytes before this field.
};

struct Module {
  uint32_t path_offset;  // Into the pool.
  uint32_t path_size;
  int64_t mtime_ns;
  uint64_t source_size;
  int64_t ctime_ns;
  uint64_t inode;
  uint64_t frame_offset;  // From the file's start.
  uint32_t frame_size;
  uint32_t raw_size;
  uint32_t order;
  uint32_t reserved;
  uint64_t check;  // ModuleCheck.
};

struct Folder {
  uint32_t path_offset;
  uint32_t path_size;
  int64_t mtime_ns;
  int64_t ctime_ns;
  uint64_t inode;
  uint32_t first_slot;  // name_count + 1 offsets into the folder's own name bytes.
  uint32_t name_count;
  uint32_t names_offset;  // Into the pool.
  uint32_t names_size;
  uint64_t check;  // FolderCheck.
};

static_assert(sizeof(Header) == 128 && sizeof(Module) == 72 && sizeof(Folder) == 56);
static_assert(std::has_unique_object_representations_v<Header> &&
              std::has_unique_object_representations_v<Module> &&
              std::has_unique_object_representations_v<Folder>);

template <typename T>
T Load(const char* at) {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

template <typename T>
std::string_view BytesOf(const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

inline uint64_t Hash(std::string_view bytes, uint64_t seed = 0) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

inline uint64_t HeaderChecksum(const Header& header) {
  return Hash(BytesOf(header).substr(0, offsetof(Header, checksum)));
}

// Each entry vouches for itself and for all that it points to outside the frames, so that Open need
// not read the index.
inline uint64_t ModuleCheck(const Module& module, std::string_view path) {
  return Hash(path, Hash(BytesOf(module).substr(0, offsetof(Module, check))));
}

inline uint64_t FolderCheck(const Folder& folder, std::string_view path, std::string_view slots,
                            std::string_view names) {
  const uint64_t fields = Hash(BytesOf(folder).substr(0, offsetof(Folder, check)));
  return Hash(names, Hash(slots, Hash(path, fields)));
}

}  // namespace pylaunch::cache::format

#endif  // PYLAUNCH_CACHE_FORMAT_H_
