#include "cache/archive_writer.h"

#include <algorithm>
#include <limits>
#include <unordered_set>
#include <utility>

#include "cache/codec.h"
#include "cache/format.h"

namespace pylaunch::cache {
namespace {

constexpr int kLevel = 3;  // zstd's own default.
constexpr uint64_t kMax32 = std::numeric_limits<uint32_t>::max();

// A module or folder until Finish knows where it goes.
template <typename Record>
struct Pending {
  uint64_t hash;
  std::string path;
  Record record;
  std::vector<std::string> names;  // Of a folder.
};

std::string Following(const Pending<format::Module>& module) { return module.path; }

std::string Following(const Pending<format::Folder>& folder) {
  std::string names, offsets;
  for (const std::string& name : folder.names) {
    offsets += format::BytesOf(static_cast<uint32_t>(names.size()));
    names += name;
  }
  offsets += format::BytesOf(static_cast<uint32_t>(names.size()));
  return folder.path + offsets + names;
}

// The records of one kind and the slots that lead to them. Records keep their order, so that those
// used at one time lie side by side.
class Directory {
 public:
  template <typename Record>
  explicit Directory(const std::vector<Pending<Record>>& entries) {
    for (const uint32_t i : Firsts(entries)) Add(entries[i]);
    std::sort(sorted_.begin(), sorted_.end());
  }

  std::string Slots() const {
    std::string slots;
    for (const auto& [hash, place] : sorted_) {
      slots +=
          format::BytesOf(format::Slot{.hash = static_cast<uint32_t>(hash >> 32), .place = place});
    }
    return slots;
  }
  const std::string& records() const { return records_; }
  uint32_t count() const { return static_cast<uint32_t>(sorted_.size()); }
  // False if a place has overflowed; then nothing here is of use.
  bool Fits() const { return records_.size() / format::kRecordAlign <= kMax32; }

 private:
  // Which entries stay: of equal paths the first one, in the order of adding.
  template <typename Record>
  static std::vector<uint32_t> Firsts(const std::vector<Pending<Record>>& entries) {
    std::unordered_set<std::string_view> seen;
    std::vector<uint32_t> firsts;
    for (uint32_t i = 0; i < entries.size(); ++i) {
      if (seen.insert(entries[i].path).second) firsts.push_back(i);
    }
    return firsts;
  }

  template <typename Record>
  void Add(const Pending<Record>& entry) {
    const std::string following = Following(entry);
    Record record = entry.record;
    record.check = format::RecordCheck(record, following);
    const auto place = static_cast<uint32_t>(records_.size() / format::kRecordAlign);
    sorted_.emplace_back(entry.hash, place);
    records_ += format::BytesOf(record);
    records_ += following;
    records_.resize((records_.size() + format::kRecordAlign - 1) / format::kRecordAlign *
                    format::kRecordAlign);
  }

  std::vector<std::pair<uint64_t, uint32_t>> sorted_;  // Hash of the path, place.
  std::string records_;
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
  std::vector<std::pair<uint32_t, std::string>> sections;  // Tag and bytes.

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
                                      const std::optional<SourceDigest>& digest,
                                      std::string_view code) {
  if (code.empty() || code.size() > format::kMaxRawSize) {
    return MakeError(ErrorCode::kIo, std::string(path) + ": code of a size that cannot be kept");
  }
  auto frame = Compress(code, kLevel);
  if (!frame) return tl::unexpected(std::move(frame.error()));
  return AddFrame(path, stamp, digest, *frame, static_cast<uint32_t>(code.size()));
}

Result<void> ArchiveWriter::AddFrame(std::string_view path, const SourceStamp& stamp,
                                     const std::optional<SourceDigest>& digest,
                                     std::string_view frame, uint32_t raw_size) {
  if (path.empty() || frame.empty() || frame.size() > kMax32 || rep_->modules.size() >= kMax32) {
    return MakeError(ErrorCode::kIo, std::string(path) + ": an entry that cannot be kept");
  }
  format::Module record = {};
  record.mtime_ns = stamp.mtime_ns;
  record.source_size = stamp.size;
  record.ctime_ns = stamp.ctime_ns;
  record.inode = stamp.inode;
  if (digest) {
    record.flags = format::kHasDigest;
    record.digest_low = digest->low;
    record.digest_high = digest->high;
  }
  record.frame_offset = rep_->end;
  record.frame_check = format::Hash(frame);
  record.frame_size = static_cast<uint32_t>(frame.size());
  record.raw_size = raw_size;
  record.order = static_cast<uint32_t>(rep_->modules.size());
  record.path_size = static_cast<uint32_t>(path.size());
  if (auto done = rep_->Append(frame); !done) return done;
  rep_->modules.push_back({format::Hash(path), std::string(path), record, {}});
  return {};
}

void ArchiveWriter::AddFolder(std::string_view path, const FolderStamp& stamp,
                              std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  format::Folder record = {};
  record.mtime_ns = stamp.mtime_ns;
  record.ctime_ns = stamp.ctime_ns;
  record.inode = stamp.inode;
  record.path_size = static_cast<uint32_t>(path.size());
  record.name_count = static_cast<uint32_t>(names.size());
  for (const std::string& name : names) record.names_size += static_cast<uint32_t>(name.size());
  rep_->folders.push_back({format::Hash(path), std::string(path), record, std::move(names)});
}

Result<Block> ArchiveWriter::AddBlock(std::string_view bytes) {
  if (bytes.empty() || bytes.size() > format::kMaxRawSize) {
    return MakeError(ErrorCode::kIo, rep_->path + ": a block of a size that cannot be kept");
  }
  const auto frame = Compress(bytes, kLevel);
  if (!frame) return tl::unexpected(frame.error());
  const Block block = {.offset = rep_->end,
                       .check = format::Hash(*frame),
                       .size = static_cast<uint32_t>(frame->size()),
                       .raw_size = static_cast<uint32_t>(bytes.size())};
  if (auto done = rep_->Append(*frame); !done) return tl::unexpected(done.error());
  return block;
}

void ArchiveWriter::AddSection(uint32_t tag, std::string bytes) {
  rep_->sections.emplace_back(tag, std::move(bytes));
}

// The sections at the end, then the header over its reserved place.
Result<void> ArchiveWriter::Rep::WriteIndex() {
  const Directory module_directory(modules), folder_directory(folders);
  if (!module_directory.Fits() || !folder_directory.Fits() ||
      sections.size() + 5 > format::kMaxSections) {
    return MakeError(ErrorCode::kIo, path + ": the index is too large");
  }
  format::Header header = {};
  std::memcpy(header.magic, format::kMagic, sizeof header.magic);
  header.version = format::kVersion;
  header.header_size = sizeof header;
  header.index_offset = end;
  header.key_digest = format::Hash(key_text);
  header.created_ns = env.NowNs();
  header.module_count = module_directory.count();
  header.folder_count = folder_directory.count();

  std::string index;
  size_t count = 0;
  const auto add = [&](uint32_t tag, std::string_view bytes) {
    header.sections[count++] = {.tag = tag,
                                .reserved = 0,
                                .offset = end + index.size(),
                                .size = bytes.size(),
                                .checksum = format::Hash(bytes)};
    index += bytes;
  };
  add(format::kKey, key_text);
  add(format::kModuleSlots, module_directory.Slots());
  add(format::kModules, module_directory.records());
  add(format::kFolderSlots, folder_directory.Slots());
  add(format::kFolders, folder_directory.records());
  for (const auto& [tag, bytes] : sections) add(tag, bytes);
  header.file_size = end + index.size();
  header.checksum = format::HeaderChecksum(header);

  if (auto done = Append(index); !done) return done;
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
