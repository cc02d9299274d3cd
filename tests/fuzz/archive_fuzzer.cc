// libFuzzer over archives: whatever the bytes are, the reader neither crashes nor leaks, nor gives
// code that is not what the writer stored for that path. scripts/fuzz runs it.
//
// The first byte of an input says which checksums are put right before the rest is read as a file,
// since without them hardly any input would come further than the header: bit 0: those of header
// and sections; bit 1: those of records and frames, too.

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "cache/archive_reader.h"
#include "cache/archive_writer.h"
#include "cache/format.h"

namespace pylaunch::cache {
namespace {

constexpr int kModules = 3, kFolders = 2;

std::string ModulePath(int i) { return "/v/m" + std::to_string(i) + ".py"; }
std::string FolderPath(int i) { return "/v/p" + std::to_string(i); }
std::string CodeFor(int i) { return std::string(40 + 30 * i, 'a' + static_cast<char>(i)) + "."; }
const std::vector<std::string> kNames = {"a.py", "b", "c.so"};

BuildKey Key() { return {.python = "3", .environment = "/v", .magic = 1, .optimize = 0}; }

// Files are strings here.
class MemoryEnv final : public FileEnv {
 public:
  std::string file;

  Result<MappedFile> Map(const std::string&) override {
    struct stat st = {};
    st.st_uid = geteuid();
    st.st_mode = S_IFREG | 0600;
    st.st_size = static_cast<off_t>(file.size());
    if (file.empty()) return MappedFile(nullptr, 0, st);
    void* data =
        mmap(nullptr, file.size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) abort();
    std::memcpy(data, file.data(), file.size());
    return MappedFile(static_cast<const char*>(data), file.size(), st);
  }
  Result<std::unique_ptr<WritableFile>> CreateTemp(const std::string&) override {
    return std::make_unique<File>(this);
  }
  Result<void> Rename(const std::string&, const std::string&) override { return {}; }
  Result<void> Unlink(const std::string&) override { return {}; }
  Result<void> Touch(const std::string&) override { return {}; }
  Result<void> SyncFolder(const std::string&) override { return {}; }
  Result<void> MakeFolders(const std::string&) override { return {}; }
  Result<struct stat> Stat(const std::string&) override { return None(); }
  Result<std::string> ReadFile(const std::string&, size_t) override { return None(); }
  Result<std::vector<std::string>> ListFolder(const std::string&) override { return None(); }
  Result<std::unique_ptr<FileLock>> Lock(const std::string&, std::chrono::milliseconds) override {
    return None();
  }
  int64_t NowNs() override { return 0; }

 private:
  class File final : public WritableFile {
   public:
    explicit File(MemoryEnv* env) : env_(env) { env_->file.clear(); }
    Result<void> Append(std::string_view data) override {
      env_->file += data;
      return {};
    }
    Result<void> WriteAt(uint64_t offset, std::string_view data) override {
      env_->file.replace(offset, data.size(), data);
      return {};
    }
    Result<void> Sync() override { return {}; }
    const std::string& path() const override { return path_; }

   private:
    MemoryEnv* env_;
    std::string path_ = "temp";
  };
  static tl::unexpected<Error> None() { return MakeError(ErrorCode::kNotFound, "none"); }
};

std::string GoodArchive() {
  MemoryEnv env;
  auto writer = *ArchiveWriter::Create(env, "a.pla", Key());
  for (int i = 0; i < kModules; ++i) {
    const std::optional<SourceDigest> digest = i == 1 ? std::optional(DigestOf("x")) : std::nullopt;
    (void)writer->AddModule(ModulePath(i), {.mtime_ns = i}, digest, CodeFor(i));
  }
  for (int i = 0; i < kFolders; ++i) writer->AddFolder(FolderPath(i), {.mtime_ns = i}, kNames);
  writer->AddSection(99, "of another kind");
  (void)writer->Finish();
  return env.file;
}

std::string_view Cut(const std::string& bytes, uint64_t at, uint64_t size) {
  return std::string_view(bytes).substr(std::min<uint64_t>(at, bytes.size()), size);
}

template <typename Record>
void MendRecord(std::string* bytes, uint64_t at) {
  if (at > bytes->size() || bytes->size() - at < sizeof(Record)) return;
  auto record = format::Load<Record>(&(*bytes)[at]);
  if constexpr (std::is_same_v<Record, format::Module>) {
    record.frame_check = format::Hash(Cut(*bytes, record.frame_offset, record.frame_size));
  }
  record.check =
      format::RecordCheck(record, Cut(*bytes, at + sizeof record, format::FollowingSize(record)));
  bytes->replace(at, sizeof record, format::BytesOf(record));
}

void Mend(std::string* bytes, bool records_too) {
  if (bytes->size() < sizeof(format::Header)) return;
  auto header = format::Load<format::Header>(bytes->data());
  const auto find = [&](uint32_t tag) {
    for (const format::Section& section : header.sections) {
      if (section.tag == tag) return section;
    }
    return format::Section{};
  };
  const auto mend = [&](uint32_t slots_tag, uint32_t records_tag, auto mend_record) {
    const format::Section slots = find(slots_tag), records = find(records_tag);
    for (uint64_t at = 0; at + sizeof(format::Slot) <= slots.size && at < 1024; at += 8) {
      const std::string_view slot = Cut(*bytes, slots.offset + at, sizeof(format::Slot));
      if (slot.size() < sizeof(format::Slot)) break;
      const uint64_t place = format::Load<format::Slot>(slot.data()).place;
      mend_record(bytes, records.offset + place * format::kRecordAlign);
    }
  };
  if (records_too) {
    mend(format::kModuleSlots, format::kModules, MendRecord<format::Module>);
    mend(format::kFolderSlots, format::kFolders, MendRecord<format::Folder>);
  }
  for (format::Section& section : header.sections) {
    section.checksum = format::Hash(Cut(*bytes, section.offset, section.size));
  }
  header.file_size = bytes->size();
  header.checksum = format::HeaderChecksum(header);
  bytes->replace(0, sizeof header, format::BytesOf(header));
}

void Expect(bool good) {
  if (!good) abort();
}

// `honest`: no checksum was mended, so what is found must be what was written.
void Read(const ArchiveReader& archive, bool honest) {
  std::string code;
  for (int i = 0; i < kModules; ++i) {
    const auto entry = archive.FindModule(ModulePath(i));
    if (!entry) continue;
    Expect(entry->path == ModulePath(i));
    if (archive.ReadCode(*entry, &code) && honest) Expect(code == CodeFor(i));
  }
  for (int i = 0; i < kFolders; ++i) {
    const auto entry = archive.FindFolder(FolderPath(i));
    if (!entry) continue;
    Expect(entry->path == FolderPath(i));
    if (honest) Expect(entry->names.size() == kNames.size() && entry->names.Contains(kNames[1]));
  }
  Expect(!archive.FindModule("/absent.py"));
  for (uint32_t i = 0; i < std::min(archive.module_count(), 64u); ++i) {
    const ModuleEntry entry = archive.module(i);
    if (!entry.path.empty()) (void)archive.ReadCode(entry, &code);
  }
  for (uint32_t i = 0; i < std::min(archive.folder_count(), 64u); ++i) {
    const FolderEntry entry = archive.folder(i);
    for (uint32_t n = 0; n < std::min(entry.names.size(), 64u); ++n) code = entry.names[n];
  }
  if (const auto section = archive.Section(99)) code = *section;
}

}  // namespace
}  // namespace pylaunch::cache

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pylaunch::cache;
  if (size == 0) return 0;
  MemoryEnv env;
  env.file.assign(reinterpret_cast<const char*>(data) + 1, size - 1);
  if ((data[0] & 1) != 0) Mend(&env.file, (data[0] & 2) != 0);
  const bool honest = (data[0] & 1) == 0;
  if (const auto archive = ArchiveReader::Open(env, "a.pla", Key())) Read(**archive, honest);
  if (const auto archive = ArchiveReader::OpenAny(env, "a.pla")) Read(**archive, honest);
  return 0;
}

// Mutates a good archive where there is nothing else to begin with.
extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  static const std::string good = pylaunch::cache::GoodArchive();
  if (size < 2 || seed % 4096 == 0) {
    size = std::min(good.size() + 1, max_size);
    data[0] = static_cast<uint8_t>(seed >> 16);
    std::memcpy(data + 1, good.data(), size - 1);
  }
  return LLVMFuzzerMutate(data, size, max_size);
}
