#include "cache/seal.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <memory>
#include <numeric>
#include <optional>
#include <unordered_set>
#include <utility>

#include "cache/archive_reader.h"
#include "cache/archive_writer.h"
#include "cache/codec.h"
#include "cache/format.h"
#include "cache/memo.h"

namespace pylaunch::cache {
namespace {

constexpr std::chrono::seconds kLockTimeout(10);
constexpr int64_t kTempLifeNs = 3600LL * 1'000'000'000;

// A .pyc's header (PEP 552): magic, flags (0: checked by time stamp), mtime, size.
constexpr size_t kPycHeader = 16;

// The mtime as CPython writes it: os.stat's float, cut to seconds. Near the end of a second the
// float is already the next one.
uint32_t PycMtime(int64_t mtime_ns) {
  int64_t seconds = mtime_ns / 1'000'000'000, rest = mtime_ns % 1'000'000'000;
  if (rest < 0) {
    rest += 1'000'000'000;
    --seconds;
  }
  const double mtime = static_cast<double>(seconds) + 1e-9 * static_cast<double>(rest);
  return static_cast<uint32_t>(static_cast<int64_t>(mtime));
}

// The marshal data of a .pyc that CPython would load for a source of this stamp.
std::optional<std::string_view> CodeOfPyc(std::string_view pyc, const SourceStamp& stamp,
                                          uint32_t magic) {
  if (pyc.size() <= kPycHeader) return {};
  if (format::Load<uint32_t>(pyc.data()) != magic) return {};
  if (format::Load<uint32_t>(pyc.data() + 4) != 0) return {};
  if (format::Load<uint32_t>(pyc.data() + 8) != PycMtime(stamp.mtime_ns)) return {};
  if (format::Load<uint32_t>(pyc.data() + 12) != static_cast<uint32_t>(stamp.size)) return {};
  return pyc.substr(kPycHeader);
}

// False if the disk says that the stamp no longer holds. An error that does not say so (a network
// drive that hangs) keeps the entry: its reader will ask again before it trusts it.
template <typename Stamp>
bool Holds(FileEnv& env, const std::string& path, const Stamp& stamp,
           Stamp (*stamp_of)(const struct stat&)) {
  const auto st = env.Stat(path);
  if (!st) return st.error().code != ErrorCode::kNotFound;
  return stamp_of(*st) == stamp;
}

// As above for a memo, which stands where a module's code would: `content` is the frame's.
bool MemoHolds(FileEnv& env, std::string_view content) {
  const auto memo = Memo::Parse(content);
  return memo && StillHolds(env, memo->files);
}

bool Provable(const ModuleRecord& module) {
  return IsProvable(module.stamp.mtime_ns, module.read_at_ns);
}

bool Provable(const FolderRecord& folder) {
  // ctime too: it is the one that a change sets even where mtime is put back afterwards.
  return IsProvable(std::max(folder.stamp.mtime_ns, folder.stamp.ctime_ns), folder.read_at_ns);
}

// One job against one archive, under the lock. Old entries go first, in their order, new ones after
// them: that is the order of first use over all runs.
class Merge {
 public:
  // `old` may be null. `rewrite`: write even if the job adds nothing.
  Merge(FileEnv& env, const SealJob& job, const ArchiveReader* old, bool rewrite)
      : env_(env), job_(job), old_(old), rewrite_(rewrite) {}

  Result<SealOutcome> Run() {
    PickModules();
    PickFolders();
    if (old_ != nullptr) {
      ReviewOldModules();
      ReviewOldFolders();
    }
    auto done = Write();
    if (!done) return tl::unexpected(std::move(done.error()));
    return outcome_;
  }

 private:
  // The records that deserve a place and are not already there.
  void PickModules();
  void PickFolders();
  // True unless the disk says that a record or an old entry no longer holds.
  bool RecordHolds(const ModuleRecord& module);
  bool EntryHolds(const ModuleEntry& entry);
  // The old entries that stay.
  void ReviewOldModules();
  void ReviewOldFolders();
  void DropOld() {
    ++outcome_.dropped;
    rewrite_ = true;
  }

  Result<void> Write();
  Result<void> AddNew(const ModuleRecord& module);
  // Makes the writer and copies the kept entries into it, at the first call.
  Result<void> NeedWriter();

  FileEnv& env_;
  const SealJob& job_;
  const ArchiveReader* const old_;
  bool rewrite_;
  std::vector<const ModuleRecord*> new_modules_;
  std::vector<const FolderRecord*> new_folders_;
  std::unordered_set<std::string_view> new_module_paths_, new_folder_paths_;
  std::vector<ModuleEntry> kept_modules_;
  std::vector<FolderEntry> kept_folders_;
  std::unique_ptr<ArchiveWriter> writer_;
  std::string scratch_;
  SealOutcome outcome_;
};

bool Merge::RecordHolds(const ModuleRecord& module) {
  if (!IsMemoKey(module.path)) return Holds(env_, module.path, module.stamp, SourceStampOf);
  return Decompress(module.frame, module.raw_size, &scratch_) && MemoHolds(env_, scratch_);
}

bool Merge::EntryHolds(const ModuleEntry& entry) {
  if (!IsMemoKey(entry.path)) {
    return Holds(env_, std::string(entry.path), entry.stamp, SourceStampOf);
  }
  return old_->ReadCode(entry, &scratch_) && MemoHolds(env_, scratch_);
}

void Merge::PickModules() {
  std::unordered_set<std::string_view> seen;
  for (const ModuleRecord& module : job_.modules) {
    if (!seen.insert(module.path).second) continue;
    if (module.path.empty() || !Provable(module) || !RecordHolds(module)) {
      ++outcome_.dropped;
      continue;
    }
    const auto old = old_ == nullptr ? std::nullopt : old_->FindModule(module.path);
    // Read, not only found: a program that could not read a damaged frame asks for it again.
    // A memo's stamp says nothing: what is told anew was not there, or no longer true.
    if (old && !IsMemoKey(module.path) && old->stamp == module.stamp &&
        old_->ReadCode(*old, &scratch_)) {
      continue;
    }
    new_modules_.push_back(&module);
    new_module_paths_.insert(module.path);
  }
}

void Merge::PickFolders() {
  std::unordered_set<std::string_view> seen;
  for (const FolderRecord& folder : job_.folders) {
    if (!seen.insert(folder.path).second) continue;
    if (folder.path.empty() || !Provable(folder) ||
        !Holds(env_, folder.path, folder.stamp, FolderStampOf)) {
      ++outcome_.dropped;
      continue;
    }
    const auto old = old_ == nullptr ? std::nullopt : old_->FindFolder(folder.path);
    if (old && old->stamp == folder.stamp) continue;
    new_folders_.push_back(&folder);
    new_folder_paths_.insert(folder.path);
  }
}

void Merge::ReviewOldModules() {
  for (uint32_t i = 0; i < old_->module_count(); ++i) {
    const ModuleEntry entry = old_->module(i);
    if (entry.path.empty() || new_module_paths_.contains(entry.path) || !EntryHolds(entry)) {
      DropOld();
    } else {
      kept_modules_.push_back(entry);
    }
  }
  std::sort(kept_modules_.begin(), kept_modules_.end(),
            [](const ModuleEntry& a, const ModuleEntry& b) { return a.order < b.order; });
}

void Merge::ReviewOldFolders() {
  for (uint32_t i = 0; i < old_->folder_count(); ++i) {
    const FolderEntry entry = old_->folder(i);
    if (entry.path.empty() || new_folder_paths_.contains(entry.path) ||
        !Holds(env_, std::string(entry.path), entry.stamp, FolderStampOf)) {
      DropOld();
    } else {
      kept_folders_.push_back(entry);
    }
  }
}

Result<void> Merge::Write() {
  outcome_.kept = static_cast<uint32_t>(kept_modules_.size() + kept_folders_.size());
  if (rewrite_ || !new_folders_.empty()) {
    if (auto made = NeedWriter(); !made) return made;
  }
  for (const ModuleRecord* module : new_modules_) {
    if (auto done = AddNew(*module); !done) return done;
  }
  if (writer_ == nullptr) return {};
  for (const FolderRecord* folder : new_folders_) {
    writer_->AddFolder(folder->path, folder->stamp, folder->names);
    ++outcome_.added;
  }
  auto done = writer_->Finish();
  outcome_.written = done.has_value();
  return done;
}

// Code that cannot be had or is not what the stamp says is dropped, not an error: nothing is lost
// but a little speed. Looked at before the writer is made, because a module whose code is refused
// at every start must not cause a rewrite at every start.
Result<void> Merge::AddNew(const ModuleRecord& module) {
  if (!module.frame.empty()) {
    if (module.raw_size == 0 || !Decompress(module.frame, module.raw_size, &scratch_)) {
      ++outcome_.dropped;
      return {};
    }
    if (auto made = NeedWriter(); !made) return made;
    ++outcome_.added;
    return writer_->AddFrame(module.path, module.stamp, module.frame, module.raw_size);
  }
  const auto pyc = env_.ReadFile(module.pyc_path, kPycHeader + format::kMaxRawSize);
  const auto code = pyc ? CodeOfPyc(*pyc, module.stamp, job_.key.magic) : std::nullopt;
  if (!code) {
    ++outcome_.dropped;
    return {};
  }
  if (auto made = NeedWriter(); !made) return made;
  ++outcome_.added;
  return writer_->AddModule(module.path, module.stamp, *code);
}

Result<void> Merge::NeedWriter() {
  if (writer_ != nullptr) return {};
  auto writer = ArchiveWriter::Create(env_, job_.archive_path, job_.key);
  if (!writer) return tl::unexpected(std::move(writer.error()));
  writer_ = std::move(*writer);
  for (const ModuleEntry& entry : kept_modules_) {
    auto done = writer_->AddFrame(entry.path, entry.stamp, old_->Frame(entry), entry.raw_size);
    if (!done) return done;
  }
  for (const FolderEntry& entry : kept_folders_) {
    std::vector<std::string> names(entry.names.size());
    for (uint32_t i = 0; i < entry.names.size(); ++i) names[i] = entry.names[i];
    writer_->AddFolder(entry.path, entry.stamp, std::move(names));
  }
  return {};
}

// What killed writers left. Best effort.
void RemoveStaleTemps(FileEnv& env, const std::string& archive) {
  const std::string folder = FolderOf(archive);
  const auto names = env.ListFolder(folder);
  if (!names) return;
  for (const std::string& name : *names) {
    if (!IsTempNameFor(name, BaseOf(archive))) continue;
    const std::string path = folder + "/" + name;
    const auto st = env.Stat(path);
    if (st && env.NowNs() - SourceStampOf(*st).mtime_ns > kTempLifeNs) (void)env.Unlink(path);
  }
}

Result<SealOutcome> SealLocked(FileEnv& env, const SealJob& job) {
  RemoveStaleTemps(env, job.archive_path);
  if (job.discard_existing) return Merge(env, job, nullptr, /*rewrite=*/true).Run();
  const auto old = ArchiveReader::Open(env, job.archive_path, job.key);
  if (old) return Merge(env, job, old->get(), /*rewrite=*/false).Run();
  switch (old.error().code) {
    case ErrorCode::kNotFound:
      return Merge(env, job, nullptr, /*rewrite=*/false).Run();
    case ErrorCode::kForeign:
    case ErrorCode::kUntrusted:
    case ErrorCode::kCorrupt:
      return Merge(env, job, nullptr, /*rewrite=*/true).Run();
    case ErrorCode::kBusy:
    case ErrorCode::kIo:
      break;
  }
  return tl::unexpected(old.error());
}

}  // namespace

Result<SealOutcome> Seal(FileEnv& env, const SealJob& job) try {
  if (auto made = env.MakeFolders(FolderOf(job.archive_path)); !made) {
    return tl::unexpected(std::move(made.error()));
  }
  const auto lock = env.Lock(job.archive_path + ".lock", kLockTimeout);
  if (!lock) return tl::unexpected(lock.error());
  return SealLocked(env, job);
} catch (const std::exception& e) {
  return MakeError(ErrorCode::kIo, job.archive_path + ": " + e.what());
}

}  // namespace pylaunch::cache
