#ifndef PYLAUNCH_CACHE_FORMAT_H_
#define PYLAUNCH_CACHE_FORMAT_H_

// The archive's bytes as C++ sees them; private to this library and its tests. Prose and reasons
// are in docs/archive.md. The structs are copied in and out with memcpy, never pointed at: fields
// of a file may lie at any address.

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
inline constexpr uint32_t kVersion = 2;

// No code object comes near; a damaged size must not make us allocate what the machine lacks.
inline constexpr uint32_t kMaxRawSize = uint32_t{1} << 30;

// What a section holds. Readers pass over tags that they do not know.
enum Tag : uint32_t {
  kKey = 1,          // The key's text.
  kModuleSlots = 2,  // Slot*, ascending by hash.
  kModules = 3,      // Module records, in order of first use.
  kFolderSlots = 4,
  kFolders = 5,
  // 6: what else an exported one holds (transfer.h, kCargoTag).
};

struct Section {
  uint32_t tag;  // 0: none.
  uint32_t reserved;
  uint64_t offset;  // From the file's start; sections lie behind the frames.
  uint64_t size;
  uint64_t checksum;  // Of all its bytes.
};

inline constexpr uint32_t kMaxSections = 12;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t header_size;  // Of this struct.
  uint64_t file_size;
  uint64_t index_offset;  // Where frames end and sections begin.
  uint64_t key_digest;    // Of the key's text.
  int64_t created_ns;
  uint32_t module_count;
  uint32_t folder_count;
  uint32_t reserved[16];
  Section sections[kMaxSections];
  uint64_t checksum;  // Of all bytes before this field.
};

// Where to find the record of a path.
struct Slot {
  uint32_t hash;   // The upper half of H(path).
  uint32_t place;  // The record's offset in its section, in units of kRecordAlign.
};

inline constexpr size_t kRecordAlign = 8;

// A record, followed by the path.
struct Module {
  int64_t mtime_ns;
  uint64_t source_size;
  int64_t ctime_ns;
  uint64_t inode;
  uint64_t digest_low;  // Of the source's bytes, if kHasDigest.
  uint64_t digest_high;
  uint64_t frame_offset;  // From the file's start.
  uint64_t frame_check;   // Of the frame's bytes.
  uint32_t frame_size;
  uint32_t raw_size;
  uint32_t order;
  uint32_t path_size;
  uint32_t flags;
  uint32_t reserved;
  uint64_t check;  // RecordCheck.
};

inline constexpr uint32_t kHasDigest = 1;

// A record, followed by the path, name_count + 1 offsets (u32) into the names, and the names.
struct Folder {
  int64_t mtime_ns;
  int64_t ctime_ns;
  uint64_t inode;
  uint32_t path_size;
  uint32_t name_count;
  uint32_t names_size;
  uint32_t reserved;
  uint64_t check;  // RecordCheck.
};

static_assert(sizeof(Section) == 32 && sizeof(Header) == 512 && sizeof(Slot) == 8 &&
              sizeof(Module) == 96 && sizeof(Folder) == 48);
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

// The part of a path's hash that its slot holds.
inline uint32_t SlotHash(std::string_view path) { return static_cast<uint32_t>(Hash(path) >> 32); }

inline uint64_t HeaderChecksum(const Header& header) {
  return Hash(BytesOf(header).substr(0, offsetof(Header, checksum)));
}

// Each record vouches for itself and for what follows it, so that Open need not read the index.
template <typename Record>
uint64_t RecordCheck(const Record& record, std::string_view following) {
  return Hash(following, Hash(BytesOf(record).substr(0, offsetof(Record, check))));
}

// How many bytes follow a record. Counts are 32 bits wide, so that no sum here overflows.
inline uint64_t FollowingSize(const Module& module) { return module.path_size; }
inline uint64_t FollowingSize(const Folder& folder) {
  return uint64_t{folder.path_size} + (uint64_t{folder.name_count} + 1) * sizeof(uint32_t) +
         folder.names_size;
}

}  // namespace pylaunch::cache::format

#endif  // PYLAUNCH_CACHE_FORMAT_H_
