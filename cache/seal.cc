#include "cache/seal.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <memory>
#include <numeric>
#include <optional>
#include <unordered_set>
#include <utility>

#include "cache/archive.h"
#include "cache/archive_reader.h"
#include "cache/archive_writer.h"
#include "cache/codec.h"
#include "cache/format.h"
#include "cache/memo.h"
#include "cache/prune.h"
#include "cache/pyc.h"

namespace pylaunch::cache {
namespace {

constexpr std::chrono::seconds kLockTimeout(10);
constexpr size_t kMaxSource = size_t{256} << 20;

// A smaller archive is rewritten whole: that takes some milliseconds.
constexpr uint64_t kSmallArchive = 2 << 20;
// How much of a large one its additions may come to.
constexpr uint64_t kDeltaShare = 4;
constexpr uint64_t kUsualRatio = 3;  // Of marshal data to its frame.

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

// The digest of the source as stamped; nullopt: it cannot be read, or changes meanwhile.
std::optional<SourceDigest> DigestAs(FileEnv& env, const std::string& path,
                                     const SourceStamp& stamp) {
  if (stamp.size > kMaxSource) return {};
  const auto source = env.ReadFile(path, kMaxSource);
  if (!source || source->size() != stamp.size) return {};
  const auto st = env.Stat(path);
  if (!st || SourceStampOf(*st) != stamp) return {};
  return DigestOf(*source);
}

// What is there already. Either may be null.
struct Old {
  const ArchiveReader* base = nullptr;
  const ArchiveReader* delta = nullptr;
};

// An entry of one of the two.
struct OldModule {
  ModuleEntry entry;
  const ArchiveReader* in;
};

// One job against what is there, under the lock. Old entries go first, in their order, new ones
// after them: that is the order of first use over all runs.
class Merge {
 public:
  // `rewrite`: write the archive anew even if the job adds nothing.
  Merge(FileEnv& env, const SealJob& job, const Old& old, bool rewrite)
      : env_(env), job_(job), old_(old), rewrite_(rewrite) {}

  Result<SealOutcome> Run() {
    PickModules();
    PickFolders();
    to_delta_ = BelongsInDelta();
    for (const ArchiveReader* in : {to_delta_ ? nullptr : old_.base, old_.delta}) {
      if (in == nullptr) continue;
      ReviewModules(in);
      ReviewFolders(in);
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
  bool EntryHolds(const OldModule& old);
  bool BelongsInDelta() const;
  // The old entries that stay.
  void ReviewModules(const ArchiveReader* in);
  void ReviewFolders(const ArchiveReader* in);
  bool Stays(const OldModule& old);
  void DropOld() {
    ++outcome_.dropped;
    rewrite_ = true;
  }
  std::optional<OldModule> FindModule(const std::string& path) const;

  Result<void> Write();
  Result<void> AddNew(const ModuleRecord& module);
  Result<void> AddRestamped(const ModuleRecord& module);
  // Makes the writer and copies the kept entries into it, at the first call.
  Result<void> NeedWriter();

  FileEnv& env_;
  const SealJob& job_;
  const Old old_;
  bool rewrite_;
  bool to_delta_ = false;
  std::vector<const ModuleRecord*> new_modules_;
  std::vector<const FolderRecord*> new_folders_;
  std::unordered_set<std::string_view> new_module_paths_, new_folder_paths_;
  std::vector<OldModule> kept_modules_;
  std::vector<FolderEntry> kept_folders_;
  std::unique_ptr<ArchiveWriter> writer_;
  std::string scratch_;
  SealOutcome outcome_;
};

std::optional<OldModule> Merge::FindModule(const std::string& path) const {
  for (const ArchiveReader* in : {old_.delta, old_.base}) {
    if (in == nullptr) continue;
    if (const auto entry = in->FindModule(path)) return OldModule{*entry, in};
  }
  return {};
}

bool Merge::RecordHolds(const ModuleRecord& module) {
  if (!IsMemoKey(module.path)) return Holds(env_, module.path, module.stamp, SourceStampOf);
  return Decompress(module.frame, module.raw_size, &scratch_) && MemoHolds(env_, scratch_);
}

bool Merge::EntryHolds(const OldModule& old) {
  const ModuleEntry& entry = old.entry;
  if (IsMemoKey(entry.path)) {
    return old.in->ReadCode(entry, &scratch_) && MemoHolds(env_, scratch_);
  }
  const std::string path(entry.path);
  return Holds(env_, path, entry.stamp, SourceStampOf) ||
         (entry.digest && env_.Stat(path).has_value());
}

void Merge::PickModules() {
  std::unordered_set<std::string_view> seen;
  for (const ModuleRecord& module : job_.modules) {
    if (!seen.insert(module.path).second) continue;
    if (module.path.empty() || !Provable(module) || !RecordHolds(module)) {
      ++outcome_.dropped;
      continue;
    }
    const auto old = FindModule(module.path);
    // Read, not only found: a program that could not read a damaged frame asks for it again.
    // A memo's stamp says nothing: what is told anew was not there, or no longer true.
    if (old && !IsMemoKey(module.path) && old->entry.stamp == module.stamp &&
        (old->entry.digest || !module.compiled) && old->in->Frame(old->entry)) {
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
    bool there = false;
    for (const ArchiveReader* in : {old_.delta, old_.base}) {
      const auto old = in == nullptr ? std::nullopt : in->FindFolder(folder.path);
      there = there || (old && old->stamp == folder.stamp);
    }
    if (there) continue;
    new_folders_.push_back(&folder);
    new_folder_paths_.insert(folder.path);
  }
}

// Only estimated: a .pyc's size is that of its code before it is compressed.
bool Merge::BelongsInDelta() const {
  if (rewrite_ || old_.base == nullptr || old_.base->file_size() < kSmallArchive) return false;
  uint64_t size = old_.delta == nullptr ? 0 : old_.delta->file_size();
  for (const ModuleRecord* module : new_modules_) {
    const auto st = module->frame.empty() ? env_.Stat(module->pyc_path)
                                          : Result<struct stat>(tl::unexpected(Error{}));
    size += st ? static_cast<uint64_t>(st->st_size) / kUsualRatio : module->frame.size();
  }
  return size < old_.base->file_size() / kDeltaShare;
}

bool Merge::Stays(const OldModule& old) {
  return !old.entry.path.empty() && !new_module_paths_.contains(old.entry.path) && EntryHolds(old);
}

void Merge::ReviewModules(const ArchiveReader* in) {
  const size_t first = kept_modules_.size();
  for (uint32_t i = 0; i < in->module_count(); ++i) {
    const ModuleEntry entry = in->module(i);
    const bool newer_in_delta = in == old_.base && old_.delta != nullptr && !entry.path.empty() &&
                                old_.delta->FindModule(entry.path);
    if (!newer_in_delta && Stays({entry, in})) {
      kept_modules_.push_back({entry, in});
    } else {
      DropOld();
    }
  }
  std::sort(kept_modules_.begin() + static_cast<std::ptrdiff_t>(first), kept_modules_.end(),
            [](const OldModule& a, const OldModule& b) { return a.entry.order < b.entry.order; });
}

void Merge::ReviewFolders(const ArchiveReader* in) {
  for (uint32_t i = 0; i < in->folder_count(); ++i) {
    const FolderEntry entry = in->folder(i);
    const bool newer_in_delta = in == old_.base && old_.delta != nullptr && !entry.path.empty() &&
                                old_.delta->FindFolder(entry.path);
    if (entry.path.empty() || newer_in_delta || new_folder_paths_.contains(entry.path) ||
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
  outcome_.delta = outcome_.written && to_delta_;
  if (outcome_.written && !to_delta_ && old_.delta != nullptr) {
    (void)env_.Unlink(DeltaPath(job_.archive_path));  // If it stays, it says nothing new.
  }
  return done;
}

// Code that cannot be had or is not what the stamp says is dropped, not an error: nothing is lost
// but a little speed. Looked at before the writer is made, because a module whose code is refused
// at every start must not cause a rewrite at every start.
Result<void> Merge::AddNew(const ModuleRecord& module) {
  if (module.frame.empty() && module.pyc_path.empty()) return AddRestamped(module);
  std::optional<SourceDigest> digest;
  if (module.compiled && !IsMemoKey(module.path))
    digest = DigestAs(env_, module.path, module.stamp);
  if (!module.frame.empty()) {
    if (module.raw_size == 0 || !Decompress(module.frame, module.raw_size, &scratch_)) {
      ++outcome_.dropped;
      return {};
    }
    if (auto made = NeedWriter(); !made) return made;
    ++outcome_.added;
    return writer_->AddFrame(module.path, module.stamp, digest, module.frame, module.raw_size);
  }
  const auto pyc = env_.ReadFile(module.pyc_path, kPycHeader + format::kMaxRawSize);
  const bool current = pyc && pyc->size() > kPycHeader &&
                       PycStateOf(*pyc, module.stamp, job_.key.magic) == PycState::kCurrent;
  if (!current) {
    ++outcome_.dropped;
    return {};
  }
  if (auto made = NeedWriter(); !made) return made;
  ++outcome_.added;
  return writer_->AddModule(module.path, module.stamp, digest,
                            std::string_view(*pyc).substr(kPycHeader));
}

// The old code under the new stamp, if the digest still proves it.
Result<void> Merge::AddRestamped(const ModuleRecord& module) {
  const auto old = FindModule(module.path);
  if (!old || !old->entry.digest ||
      DigestAs(env_, module.path, module.stamp) != old->entry.digest) {
    ++outcome_.dropped;
    return {};
  }
  const auto frame = old->in->Frame(old->entry);
  if (!frame) {
    ++outcome_.dropped;
    return {};
  }
  const std::string copy(*frame);  // NeedWriter reads others.
  if (auto made = NeedWriter(); !made) return made;
  ++outcome_.added;
  return writer_->AddFrame(module.path, module.stamp, old->entry.digest, copy, old->entry.raw_size);
}

Result<void> Merge::NeedWriter() {
  if (writer_ != nullptr) return {};
  const std::string& path = job_.archive_path;
  auto writer = ArchiveWriter::Create(env_, to_delta_ ? DeltaPath(path) : path, job_.key);
  if (!writer) return tl::unexpected(std::move(writer.error()));
  writer_ = std::move(*writer);
  for (const auto& [entry, in] : kept_modules_) {
    const auto frame = in->Frame(entry);
    if (!frame) {
      ++outcome_.dropped;
      continue;
    }
    auto done = writer_->AddFrame(entry.path, entry.stamp, entry.digest, *frame, entry.raw_size);
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
  const std::string delta(BaseOf(DeltaPath(archive)));
  const auto names = env.ListFolder(folder);
  if (!names) return;
  for (const std::string& name : *names) {
    if (!IsTempNameFor(name, BaseOf(archive)) && !IsTempNameFor(name, delta)) continue;
    const std::string path = folder + "/" + name;
    const auto st = env.Stat(path);
    if (st && env.NowNs() - NanosecondsOf(st->st_mtim) > kTempLifeNs) (void)env.Unlink(path);
  }
}

// What is there. Of a damaged one, what is whole is kept, since every record and frame vouches for
// itself; but that, as an archive of no use at all (null), makes `*rewrite` true.
Result<std::unique_ptr<ArchiveReader>> OpenOld(FileEnv& env, const std::string& path,
                                               const BuildKey& key, bool* rewrite) {
  auto old = ArchiveReader::Open(env, path, key);
  if (old && !(*old)->IndexIntact()) *rewrite = true;
  if (old || old.error().code == ErrorCode::kIo) return old;
  if (old.error().code != ErrorCode::kNotFound) *rewrite = true;
  return nullptr;
}

Result<SealOutcome> SealLocked(FileEnv& env, const SealJob& job) {
  RemoveStaleTemps(env, job.archive_path);
  bool rewrite = job.discard_existing;
  std::unique_ptr<ArchiveReader> base, delta;
  if (!job.discard_existing) {
    auto old = OpenOld(env, job.archive_path, job.key, &rewrite);
    if (!old) return tl::unexpected(old.error());
    base = std::move(*old);
    old = OpenOld(env, DeltaPath(job.archive_path), job.key, &rewrite);
    if (!old) return tl::unexpected(old.error());
    delta = std::move(*old);
  }
  auto outcome = Merge(env, job, {base.get(), delta.get()}, rewrite).Run();
  // One that was of no use and that Merge knows nothing of.
  if (outcome && outcome->written && rewrite && delta == nullptr) {
    (void)env.Unlink(DeltaPath(job.archive_path));
  }
  return outcome;
}

}  // namespace

Result<SealOutcome> Seal(FileEnv& env, const SealJob& job) try {
  const std::string folder = FolderOf(job.archive_path);
  if (auto made = env.MakeFolders(folder); !made) return tl::unexpected(std::move(made.error()));
  const auto lock = env.Lock(job.archive_path + ".lock", kLockTimeout);
  if (!lock) return tl::unexpected(lock.error());
  auto outcome = SealLocked(env, job);
  if (outcome && outcome->written) {
    PruneRequest request;
    request.folder = folder;
    request.max_bytes = job.max_bytes;
    request.others = job.others;
    request.keep = job.archive_path;
    (void)Prune(env, request);
  }
  return outcome;
} catch (const std::exception& e) {
  return MakeError(ErrorCode::kIo, job.archive_path + ": " + e.what());
}

}  // namespace pylaunch::cache
