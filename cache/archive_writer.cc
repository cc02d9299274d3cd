#include "cache/archive_writer.h"

#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>

#include "cache/codec.h"
#include "cache/format.h"

namespace pylaunch::cache {
namespace {

constexpr int kLevel = 3;  // zstd's own default.
constexpr uint64_t kMax32 = std::numeric_limits<uint32_t>::max();

// A module or folder until Finish knows where its strings go.
template <typename Raw>
struct Pending {
  uint64_t hash;
  std::string path;
  Raw raw;
  std::vector<std::string> names;  // Of a folder.
};

// Ascending by hash, then path; of equal paths the first one added stays.
template <typename Raw>
void SortUnique(std::vector<Pending<Raw>>* entries) {
  const auto key = [](const auto& entry) { return std::tie(entry.hash, entry.path); };
  std::stable_sort(entries->begin(), entries->end(),
                   [&](const auto& a, const auto& b) { return key(a) < key(b); });
  const auto same = [&](const auto& a, const auto& b) { return key(a) == key(b); };
  entries->erase(std::unique(entries->begin(), entries->end(), same), entries->end());
}

// The index's sections, growing side by side.
class IndexBuilder {
 public:
  explicit IndexBuilder(std::string_view key_text) { PoolAdd(key_text); }

  void Add(const Pending<format::Module>& module) {
    format::Module raw = module.raw;
    raw.path_offset = PoolAdd(module.path);
    raw.path_size = static_cast<uint32_t>(module.path.size());
    raw.check = format::ModuleCheck(raw, module.path);
    module_hashes_ += format::BytesOf(module.hash);
    modules_ += format::BytesOf(raw);
  }

  void Add(const Pending<format::Folder>& folder) {
    std::string names, slots;
    for (const std::string& name : folder.names) {
      slots += format::BytesOf(static_cast<uint32_t>(names.size()));
      names += name;
    }
    slots += format::BytesOf(static_cast<uint32_t>(names.size()));
    format::Folder raw = folder.raw;
    raw.path_offset = PoolAdd(folder.path);
    raw.path_size = static_cast<uint32_t>(folder.path.size());
    raw.first_slot = static_cast<uint32_t>(slots_.size() / sizeof(uint32_t));
    raw.name_count = static_cast<uint32_t>(folder.names.size());
    raw.names_offset = PoolAdd(names);
    raw.names_size = static_cast<uint32_t>(names.size());
    raw.check = format::FolderCheck(raw, folder.path, slots, names);
    slots_ += slots;
    folder_hashes_ += format::BytesOf(folder.hash);
    folders_ += format::BytesOf(raw);
  }

  // False if a 32-bit field has overflowed; then nothing here is of use.
  bool Fits() const { return pool_.size() <= kMax32 && slots_.size() / sizeof(uint32_t) <= kMax32; }

  std::string Bytes() const {
    return module_hashes_ + folder_hashes_ + modules_ + folders_ + slots_ + pool_;
  }

  void Count(format::Header* header) const {
    header->module_count = static_cast<uint32_t>(modules_.size() / sizeof(format::Module));
    header->folder_count = static_cast<uint32_t>(folders_.size() / sizeof(format::Folder));
    header->slot_count = static_cast<uint32_t>(slots_.size() / sizeof(uint32_t));
    header->pool_size = static_cast<uint32_t>(pool_.size());
  }

 private:
  uint32_t PoolAdd(std::string_view bytes) {
    const auto offset = static_cast<uint32_t>(pool_.size());
    pool_ += bytes;
    return offset;
  }

  std::string module_hashes_, folder_hashes_, modules_, folders_, slots_, pool_;
};

}  // namespace

struct ArchiveWriter::Rep {
  Rep(FileEnv& env, std::string path, std::string key_text, std::unique_ptr<WritableFile> file)
      : env(env), path(std::move(path)), key_text(std::move(key_text)), file(std::move(file)) {}

  FileEnv& env;
  std::string path;
  std::string key_text;
  std::unique_ptr<WritableFile> file;  // Null after Finish or Abandon.
  uint64_t end = 0;
  std::vector<Pending<format::Module>> modules;
  std::vector<Pending<format::Folder>> folders;

  Result<void> Append(std::string_view bytes) {
    auto done = file->Append(bytes);
    if (done) end += bytes.size();
    return done;
  }
  Result<void> WriteIndex();
};

Result<std::unique_ptr<ArchiveWriter>> ArchiveWriter::Create(FileEnv& env, const std::string& path,
                                                             const BuildKey& key) {
  auto file = env.CreateTemp(path);
  if (!file) return tl::unexpected(std::move(file.error()));
  auto rep = std::make_unique<Rep>(env, path, key.Text(), std::move(*file));
  std::unique_ptr<ArchiveWriter> writer(new ArchiveWriter(std::move(rep)));
  // The header's place: a file that is cut off before Finish has no magic.
  auto reserved = writer->rep_->Append(std::string(sizeof(format::Header), '\0'));
  if (!reserved) return tl::unexpected(std::move(reserved.error()));
  return writer;
}

ArchiveWriter::ArchiveWriter(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}
ArchiveWriter::~ArchiveWriter() { Abandon(); }

Result<void> ArchiveWriter::AddModule(std::string_view path, const SourceStamp& stamp,
                                      std::string_view code) {
  if (code.empty() || code.size() > format::kMaxRawSize) {
    return MakeError(ErrorCode::kIo, std::string(path) + ": code of a size that cannot be kept");
  }
  auto frame = Compress(code, kLevel);
  if (!frame) return tl::unexpected(std::move(frame.error()));
  return AddFrame(path, stamp, *frame, static_cast<uint32_t>(code.size()));
}

Result<void> ArchiveWriter::AddFrame(std::string_view path, const SourceStamp& stamp,
                                     std::string_view frame, uint32_t raw_size) {
  if (path.empty() || frame.empty() || frame.size() > kMax32 || rep_->modules.size() >= kMax32) {
    return MakeError(ErrorCode::kIo, std::string(path) + ": an entry that cannot be kept");
  }
  const uint64_t offset = rep_->end;
  if (auto done = rep_->Append(frame); !done) return done;
  rep_->modules.push_back({.hash = format::Hash(path),
                           .path = std::string(path),
                           .raw = {.path_offset = 0,
                                   .path_size = 0,
                                   .mtime_ns = stamp.mtime_ns,
                                   .source_size = stamp.size,
                                   .ctime_ns = stamp.ctime_ns,
                                   .inode = stamp.inode,
                                   .frame_offset = offset,
                                   .frame_size = static_cast<uint32_t>(frame.size()),
                                   .raw_size = raw_size,
                                   .order = static_cast<uint32_t>(rep_->modules.size()),
                                   .reserved = 0,
                                   .check = 0},
                           .names = {}});
  return {};
}

void ArchiveWriter::AddFolder(std::string_view path, const FolderStamp& stamp,
                              std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  format::Folder raw = {};
  raw.mtime_ns = stamp.mtime_ns;
  raw.ctime_ns = stamp.ctime_ns;
  raw.inode = stamp.inode;
  rep_->folders.push_back({.hash = format::Hash(path),
                           .path = std::string(path),
                           .raw = raw,
                           .names = std::move(names)});
}

// The index at the end, then the header over its reserved place.
Result<void> ArchiveWriter::Rep::WriteIndex() {
  SortUnique(&modules);
  SortUnique(&folders);
  IndexBuilder index(key_text);
  for (const auto& module : modules) index.Add(module);
  for (const auto& folder : folders) index.Add(folder);
  if (!index.Fits()) return MakeError(ErrorCode::kIo, path + ": index over 4 GiB");
  const std::string bytes = index.Bytes();

  format::Header header = {};
  std::memcpy(header.magic, format::kMagic, sizeof header.magic);
  header.version = format::kVersion;
  header.header_size = sizeof header;
  header.index_offset = end;
  header.index_size = bytes.size();
  header.index_checksum = format::Hash(bytes);
  header.file_size = end + bytes.size();
  header.key_digest = format::Hash(key_text);
  header.key_size = static_cast<uint32_t>(key_text.size());
  header.created_ns = env.NowNs();
  index.Count(&header);
  header.checksum = format::HeaderChecksum(header);

  if (auto done = Append(bytes); !done) return done;
  return file->WriteAt(0, format::BytesOf(header));
}

Result<void> ArchiveWriter::Finish() {
  if (rep_->file == nullptr) return MakeError(ErrorCode::kIo, rep_->path + ": already finished");
  auto done = rep_->WriteIndex();
  if (done) done = rep_->file->Sync();
  if (done) done = rep_->env.Rename(rep_->file->path(), rep_->path);
  if (!done) {
    Abandon();
    return done;
  }
  rep_->file.reset();
  // Whether or not the rename outlives a power cut, a whole archive will be there: the new one was
  // synced before it, the old one is untouched. So a file system that cannot sync folders is fine.
  (void)rep_->env.SyncFolder(FolderOf(rep_->path));
  return {};
}

void ArchiveWriter::Abandon() {
  if (rep_->file == nullptr) return;
  (void)rep_->env.Unlink(rep_->file->path());  // If it fails, a later Seal removes it by its age.
  rep_->file.reset();
}

}  // namespace pylaunch::cache
