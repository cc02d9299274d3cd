#include "cache/archive_reader.h"

#include <unistd.h>

#include <utility>

#include "cache/codec_internal.h"
#include "cache/format.h"

namespace pylaunch::cache {
namespace {

tl::unexpected<Error> Corrupt(const std::string& path, const char* why) {
  return MakeError(ErrorCode::kCorrupt, path + ": damaged archive: " + why);
}

// [offset, offset + size) within [0, limit), without overflow.
constexpr bool Within(uint64_t offset, uint64_t size, uint64_t limit) {
  return offset <= limit && size <= limit - offset;
}

// marshal data is code: a file that another user could have written is not even parsed.
Result<void> CheckTrust(const struct stat& st, const std::string& path) {
  if (st.st_uid != geteuid() && st.st_uid != 0) {
    return MakeError(ErrorCode::kUntrusted, path + ": belongs to another user");
  }
  if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return MakeError(ErrorCode::kUntrusted, path + ": is writable by others");
  }
  return {};
}

Result<format::Header> ReadHeader(std::string_view file, const std::string& path) {
  if (file.size() < sizeof(format::Header)) return Corrupt(path, "too short");
  const auto header = format::Load<format::Header>(file.data());
  if (std::memcmp(header.magic, format::kMagic, sizeof header.magic) != 0) {
    return Corrupt(path, "no magic");
  }
  // Before the checksum, which another version may keep elsewhere.
  if (header.version != format::kVersion) {
    return MakeError(ErrorCode::kForeign,
                     path + ": archive of format " + std::to_string(header.version));
  }
  if (header.checksum != format::HeaderChecksum(header) ||
      header.header_size != sizeof(format::Header)) {
    return Corrupt(path, "wrong header checksum");
  }
  if (header.file_size != file.size()) return Corrupt(path, "wrong size");
  return header;
}

}  // namespace

bool NameList::Contains(std::string_view name) const {
  uint32_t low = 0, high = count_;
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    const int order = (*this)[middle].compare(name);
    if (order == 0) return true;
    if (order < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return false;
}

std::string_view NameList::operator[](uint32_t i) const {
  const char* slot = offsets_ + size_t{i} * sizeof(uint32_t);
  const auto begin = format::Load<uint32_t>(slot);
  const auto end = format::Load<uint32_t>(slot + sizeof(uint32_t));
  return {bytes_ + begin, end - begin};
}

struct ArchiveReader::Rep {
  MappedFile file;
  std::string path;
  format::Header header;
  // Sections of the index, in the order of the file.
  const char* module_hashes = nullptr;
  const char* folder_hashes = nullptr;
  const char* modules = nullptr;
  const char* folders = nullptr;
  const char* slots = nullptr;
  const char* pool = nullptr;
  mutable DCtxPtr context;

  static Result<std::unique_ptr<Rep>> Load(FileEnv& env, const std::string& path);
  bool Lay();
  std::string_view index() const { return {file.data() + header.index_offset, header.index_size}; }
  std::string_view key_text() const { return {pool, header.key_size}; }
  bool FrameInside(const ModuleEntry& entry) const;
  std::optional<ModuleEntry> ModuleAt(uint32_t i) const;
  std::optional<FolderEntry> FolderAt(uint32_t i) const;
};

Result<std::unique_ptr<ArchiveReader::Rep>> ArchiveReader::Rep::Load(FileEnv& env,
                                                                     const std::string& path) {
  auto file = env.Map(path);
  if (!file) return tl::unexpected(std::move(file.error()));
  if (auto trusted = CheckTrust(file->st(), path); !trusted) {
    return tl::unexpected(std::move(trusted.error()));
  }
  auto header = ReadHeader(file->view(), path);
  if (!header) return tl::unexpected(std::move(header.error()));
  auto rep = std::make_unique<Rep>();
  rep->file = std::move(*file);
  rep->path = path;
  rep->header = *header;
  if (!rep->Lay()) return Corrupt(path, "index out of bounds");
  return rep;
}

// Finds the sections. False unless they fill the index, and the index the file's end, exactly. The
// counts are 32 bits wide, so that no sum here overflows.
bool ArchiveReader::Rep::Lay() {
  const uint64_t modules_n = header.module_count, folders_n = header.folder_count;
  const uint64_t size = (modules_n + folders_n) * sizeof(uint64_t) +
                        modules_n * sizeof(format::Module) + folders_n * sizeof(format::Folder) +
                        uint64_t{header.slot_count} * sizeof(uint32_t) + header.pool_size;
  if (header.index_size != size || header.index_offset < sizeof(format::Header) ||
      !Within(header.index_offset, size, file.size()) ||
      header.index_offset + size != file.size() || header.key_size > header.pool_size) {
    return false;
  }
  module_hashes = file.data() + header.index_offset;
  folder_hashes = module_hashes + modules_n * sizeof(uint64_t);
  modules = folder_hashes + folders_n * sizeof(uint64_t);
  folders = modules + modules_n * sizeof(format::Module);
  slots = folders + folders_n * sizeof(format::Folder);
  pool = slots + uint64_t{header.slot_count} * sizeof(uint32_t);
  return true;
}

bool ArchiveReader::Rep::FrameInside(const ModuleEntry& entry) const {
  return entry.frame_offset >= sizeof(format::Header) && entry.frame_size > 0 &&
         Within(entry.frame_offset, entry.frame_size, header.index_offset);
}

// nullopt: the record is damaged or points out of its section.
std::optional<ModuleEntry> ArchiveReader::Rep::ModuleAt(uint32_t i) const {
  const auto raw = format::Load<format::Module>(modules + size_t{i} * sizeof(format::Module));
  if (raw.path_size == 0 || !Within(raw.path_offset, raw.path_size, header.pool_size)) return {};
  const std::string_view path(pool + raw.path_offset, raw.path_size);
  const ModuleEntry entry = {.path = path,
                             .stamp = {.mtime_ns = raw.mtime_ns,
                                       .size = raw.source_size,
                                       .ctime_ns = raw.ctime_ns,
                                       .inode = raw.inode},
                             .frame_offset = raw.frame_offset,
                             .frame_size = raw.frame_size,
                             .raw_size = raw.raw_size,
                             .order = raw.order};
  if (!FrameInside(entry) || raw.check != format::ModuleCheck(raw, path)) return {};
  return entry;
}

std::optional<FolderEntry> ArchiveReader::Rep::FolderAt(uint32_t i) const {
  const auto raw = format::Load<format::Folder>(folders + size_t{i} * sizeof(format::Folder));
  if (raw.path_size == 0 || !Within(raw.path_offset, raw.path_size, header.pool_size) ||
      !Within(raw.names_offset, raw.names_size, header.pool_size) ||
      !Within(raw.first_slot, uint64_t{raw.name_count} + 1, header.slot_count)) {
    return {};
  }
  const std::string_view path(pool + raw.path_offset, raw.path_size);
  const std::string_view names(pool + raw.names_offset, raw.names_size);
  const std::string_view own(slots + size_t{raw.first_slot} * sizeof(uint32_t),
                             (size_t{raw.name_count} + 1) * sizeof(uint32_t));
  if (raw.check != format::FolderCheck(raw, path, own, names)) return {};
  // The checksum proves that nothing was damaged, not that the writer was right; NameList follows
  // these without looking.
  uint32_t last = 0;
  for (size_t at = 0; at < own.size(); at += sizeof(uint32_t)) {
    const auto offset = format::Load<uint32_t>(own.data() + at);
    if (offset < last || offset > raw.names_size) return {};
    last = offset;
  }
  return FolderEntry{
      .path = path,
      .stamp = {.mtime_ns = raw.mtime_ns, .ctime_ns = raw.ctime_ns, .inode = raw.inode},
      .names = NameList(own.data(), names.data(), raw.name_count)};
}

namespace {

uint64_t HashAt(const char* hashes, uint32_t i) {
  return format::Load<uint64_t>(hashes + size_t{i} * sizeof(uint64_t));
}

// The first of `count` ascending hashes that is not below `hash`.
uint32_t LowerBound(const char* hashes, uint32_t count, uint64_t hash) {
  uint32_t low = 0;
  while (count > 0) {
    const uint32_t half = count / 2;
    if (HashAt(hashes, low + half) < hash) {
      low += half + 1;
      count -= half + 1;
    } else {
      count = half;
    }
  }
  return low;
}

// The entry for `path`, where `at(i)` gives the i-th one.
template <typename At>
auto FindEntry(const char* hashes, uint32_t count, std::string_view path, const At& at)
    -> decltype(at(0)) {
  const uint64_t hash = format::Hash(path);
  for (uint32_t i = LowerBound(hashes, count, hash); i < count && HashAt(hashes, i) == hash; ++i) {
    if (auto entry = at(i); entry && entry->path == path) return entry;
  }
  return {};
}

}  // namespace

ArchiveReader::ArchiveReader(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}
ArchiveReader::~ArchiveReader() = default;

Result<std::unique_ptr<ArchiveReader>> ArchiveReader::Open(FileEnv& env, const std::string& path,
                                                           const BuildKey& key) {
  auto rep = Rep::Load(env, path);
  if (!rep) return tl::unexpected(std::move(rep.error()));
  // The digest first: it spares an archive of another build the page fault for its text.
  const std::string text = key.Text();
  if ((*rep)->header.key_digest != format::Hash(text) || (*rep)->key_text() != text) {
    return MakeError(ErrorCode::kForeign, path + ": archive of another Python or environment");
  }
  return std::unique_ptr<ArchiveReader>(new ArchiveReader(std::move(*rep)));
}

Result<std::unique_ptr<ArchiveReader>> ArchiveReader::OpenAny(FileEnv& env,
                                                              const std::string& path) {
  auto rep = Rep::Load(env, path);
  if (!rep) return tl::unexpected(std::move(rep.error()));
  if (format::Hash((*rep)->index()) != (*rep)->header.index_checksum) {
    return Corrupt(path, "wrong index checksum");
  }
  return std::unique_ptr<ArchiveReader>(new ArchiveReader(std::move(*rep)));
}

std::optional<ModuleEntry> ArchiveReader::FindModule(std::string_view path) const {
  return FindEntry(rep_->module_hashes, module_count(), path,
                   [this](uint32_t i) { return rep_->ModuleAt(i); });
}

std::optional<FolderEntry> ArchiveReader::FindFolder(std::string_view path) const {
  return FindEntry(rep_->folder_hashes, folder_count(), path,
                   [this](uint32_t i) { return rep_->FolderAt(i); });
}

Result<void> ArchiveReader::ReadCode(const ModuleEntry& entry, std::string* out) const {
  auto done = DecompressWith(&rep_->context, Frame(entry), entry.raw_size, out);
  if (!done) {
    std::string message = rep_->path + ": damaged archive: code of ";
    message.append(entry.path).append(": ").append(done.error().message);
    return MakeError(done.error().code, std::move(message));
  }
  return done;
}

std::string_view ArchiveReader::Frame(const ModuleEntry& entry) const {
  if (!rep_->FrameInside(entry)) return {};
  return {rep_->file.data() + entry.frame_offset, entry.frame_size};
}

uint32_t ArchiveReader::module_count() const { return rep_->header.module_count; }
uint32_t ArchiveReader::folder_count() const { return rep_->header.folder_count; }

ModuleEntry ArchiveReader::module(uint32_t i) const {
  return rep_->ModuleAt(i).value_or(ModuleEntry());
}

FolderEntry ArchiveReader::folder(uint32_t i) const {
  return rep_->FolderAt(i).value_or(FolderEntry());
}

uint64_t ArchiveReader::file_size() const { return rep_->file.size(); }
int64_t ArchiveReader::created_ns() const { return rep_->header.created_ns; }
std::string_view ArchiveReader::key_text() const { return rep_->key_text(); }

}  // namespace pylaunch::cache
