#include "cache/transfer.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <unordered_set>
#include <utility>
#include <vector>

#include "cache/archive.h"
#include "cache/archive_reader.h"
#include "cache/archive_writer.h"
#include "cache/memo.h"

namespace pylaunch::cache {
namespace {

constexpr std::chrono::seconds kLockTimeout{10};

using Readers = std::vector<std::unique_ptr<ArchiveReader>>;

Error Damaged(const std::string& path) {
  return {ErrorCode::kCorrupt, path + ": damaged archive: an entry is not what was written"};
}

// Copies entries of archives into a new one; of two for one path the first.
class Copier {
 public:
  Copier(FileEnv& env, ArchiveWriter* writer) : env_(env), writer_(writer) {}

  // kCorrupt: an entry of `from` is damaged; only with `strict`, else it is passed over.
  // `proved_only`: nothing that the disk does not prove.
  Result<void> Copy(const ArchiveReader& from, const std::string& path, bool strict,
                    bool proved_only) {
    modules_ = portable_ = folders_ = 0;
    for (const ModuleEntry& entry : InOrder(from)) {
      auto frame = entry.path.empty() ? tl::unexpected(Damaged(path)) : from.Frame(entry);
      if (!frame && strict) return tl::unexpected(Damaged(path));
      if (!frame || seen_modules_.contains(std::string(entry.path))) continue;
      if (proved_only && !Holds(from, entry)) continue;
      const std::string copy(*frame);
      auto added = writer_->AddFrame(entry.path, entry.stamp, entry.digest, copy, entry.raw_size);
      if (!added) return added;
      seen_modules_.emplace(entry.path);
      ++modules_;
      if (entry.digest) ++portable_;
    }
    return CopyFolders(from, path, strict, proved_only);
  }

  uint32_t modules() const { return modules_; }
  uint32_t portable() const { return portable_; }
  uint32_t folders() const { return folders_; }

 private:
  static std::vector<ModuleEntry> InOrder(const ArchiveReader& from) {
    std::vector<ModuleEntry> entries;
    for (uint32_t i = 0; i < from.module_count(); ++i) entries.push_back(from.module(i));
    std::stable_sort(entries.begin(), entries.end(),
                     [](const ModuleEntry& a, const ModuleEntry& b) { return a.order < b.order; });
    return entries;
  }

  Result<void> CopyFolders(const ArchiveReader& from, const std::string& path, bool strict,
                           bool proved_only) {
    for (uint32_t i = 0; i < from.folder_count(); ++i) {
      const FolderEntry entry = from.folder(i);
      if (entry.path.empty() && strict) return tl::unexpected(Damaged(path));
      if (entry.path.empty() || seen_folders_.contains(std::string(entry.path))) continue;
      const auto st = env_.Stat(std::string(entry.path));
      if (proved_only && (!st || FolderStampOf(*st) != entry.stamp)) continue;
      std::vector<std::string> names;
      for (uint32_t k = 0; k < entry.names.size(); ++k) names.emplace_back(entry.names[k]);
      writer_->AddFolder(entry.path, entry.stamp, std::move(names));
      seen_folders_.emplace(entry.path);
      ++folders_;
    }
    return {};
  }

  bool Holds(const ArchiveReader& from, const ModuleEntry& entry) {
    const std::string path(entry.path);
    if (!IsMemoKey(path)) {
      const auto st = env_.Stat(path);
      return st && SourceStampOf(*st) == entry.stamp;
    }
    if (!from.ReadCode(entry, &code_)) return false;
    const auto memo = Memo::Parse(code_);
    return memo && StillHolds(env_, memo->files);
  }

  FileEnv& env_;
  ArchiveWriter* writer_;
  std::string code_;
  std::unordered_set<std::string> seen_modules_, seen_folders_;
  uint32_t modules_ = 0, portable_ = 0, folders_ = 0;
};

// The additions first, as they are newer. kNotFound: there is neither file.
Result<Readers> OpenBoth(FileEnv& env, const std::string& archive, const BuildKey& key) {
  Readers readers;
  for (const std::string& path : {DeltaPath(archive), archive}) {
    auto reader = ArchiveReader::Open(env, path, key);
    if (reader && !(*reader)->IndexIntact()) return tl::unexpected(Damaged(path));
    if (reader) {
      readers.push_back(std::move(*reader));
    } else if (reader.error().code != ErrorCode::kNotFound) {
      return tl::unexpected(reader.error());
    }
  }
  if (readers.empty()) return MakeError(ErrorCode::kNotFound, archive + ": no such archive");
  return readers;
}

// A writer at work would take the one away for the other.
Result<std::unique_ptr<FileLock>> LockFor(FileEnv& env, const std::string& archive) {
  return env.Lock(archive + ".lock", kLockTimeout);
}

// Every record, frame and checksum.
Result<void> CheckAll(const ArchiveReader& from, const std::string& path) {
  std::string code;
  for (uint32_t i = 0; i < from.module_count(); ++i) {
    const ModuleEntry entry = from.module(i);
    if (entry.path.empty() || !from.FindModule(entry.path) || !from.ReadCode(entry, &code)) {
      return tl::unexpected(Damaged(path));
    }
  }
  for (uint32_t i = 0; i < from.folder_count(); ++i) {
    const FolderEntry entry = from.folder(i);
    if (entry.path.empty() || !from.FindFolder(entry.path)) return tl::unexpected(Damaged(path));
  }
  return {};
}

// Of another Python, environment or user: in words that name both.
Result<std::unique_ptr<ArchiveReader>> OpenToImport(FileEnv& env, const std::string& file,
                                                    const BuildKey& key) {
  auto reader = ArchiveReader::OpenAny(env, file);
  if (!reader) return reader;
  const std::string made_for((*reader)->key_text());
  if (made_for != key.Text()) {
    return MakeError(ErrorCode::kForeign,
                     file + ": made for " + made_for + ", and this is " + key.Text());
  }
  if (auto whole = CheckAll(**reader, file); !whole) return tl::unexpected(whole.error());
  return reader;
}

}  // namespace

Result<TransferOutcome> Export(FileEnv& env, const std::string& archive, const BuildKey& key,
                               const std::string& file, const LoadCargo& load) {
  auto readers = OpenBoth(env, archive, key);
  if (!readers) return tl::unexpected(readers.error());
  auto writer = ArchiveWriter::Create(env, file, key);
  if (!writer) return tl::unexpected(writer.error());
  Copier copier(env, writer->get());
  TransferOutcome outcome;
  for (const auto& reader : *readers) {
    auto copied = copier.Copy(*reader, archive, /*strict=*/true, /*proved_only=*/false);
    if (!copied) return tl::unexpected(copied.error());
    outcome.modules += copier.modules();
    outcome.portable += copier.portable();
    outcome.folders += copier.folders();
  }
  if (load) {
    if (auto loaded = load(writer->get()); !loaded) return tl::unexpected(loaded.error());
  }
  if (auto done = (*writer)->Finish(); !done) return tl::unexpected(done.error());
  if (const auto st = env.Stat(file)) outcome.bytes = static_cast<uint64_t>(st->st_size);
  return outcome;
}

Result<TransferOutcome> Import(FileEnv& env, const std::string& file, const BuildKey& key,
                               const std::string& archive, bool replace, const CheckCargo& check) {
  auto from = OpenToImport(env, file, key);
  if (!from) return tl::unexpected(from.error());
  if (check) {
    if (auto whole = check(**from); !whole) {
      Error error = whole.error();
      if (error.code != ErrorCode::kIo) error.message = file + ": " + error.message;
      return tl::unexpected(error);
    }
  }
  if (auto made = env.MakeFolders(FolderOf(archive)); !made) return tl::unexpected(made.error());
  const auto lock = LockFor(env, archive);
  if (!lock) return tl::unexpected(lock.error());
  auto writer = ArchiveWriter::Create(env, archive, key);
  if (!writer) return tl::unexpected(writer.error());
  Copier copier(env, writer->get());
  TransferOutcome outcome;
  outcome.bytes = (*from)->file_size();
  // An own archive that is of no use is replaced, as it would be by the next start.
  auto own = OpenBoth(env, archive, key);
  for (size_t i = 0; own && !replace && i < own->size(); ++i) {
    auto kept = copier.Copy(*(*own)[i], archive, /*strict=*/false, /*proved_only=*/true);
    if (!kept) return tl::unexpected(kept.error());
    outcome.kept += copier.modules() + copier.folders();
  }
  auto added = copier.Copy(**from, file, /*strict=*/true, /*proved_only=*/false);
  if (!added) return tl::unexpected(added.error());
  outcome.modules = copier.modules();
  outcome.portable = copier.portable();
  outcome.folders = copier.folders();
  if (auto done = (*writer)->Finish(); !done) return tl::unexpected(done.error());
  (void)env.Unlink(
      DeltaPath(archive));  // All of it is in the archive now; else it says nothing new.
  return outcome;
}

}  // namespace pylaunch::cache
