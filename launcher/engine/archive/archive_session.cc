#include "launcher/engine/archive/archive_session.h"

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "cache/codec.h"
#include "cache/note.h"
#include "image/holdings.h"
#include "launcher/engine/archive/seal_process.h"
#include "launcher/engine/base/clock.h"
#include "launcher/engine/base/report.h"
#include "launcher/engine/base/told_mark.h"
#include "launcher/engine/journal/journal.h"

namespace pylaunch::engine {
namespace {

// Frames made while the program waits: fast beats small. The sealer compresses what it reads itself
// at a better level.
constexpr int kForegroundLevel = 1;

// A folder that changes in every run (the program writes its results there) is not worth rewriting
// the archive for.
constexpr size_t kFoldersWorthSealing = 8;

// They share the folder's bound with archives, of which alone the sealer knows.
std::vector<cache::Holding> ImagesBeside(const std::string& archive) {
  image::HoldingsQuery query;
  query.cache_folder = cache::FolderOf(archive);
  return image::HoldingsOf(cache::PosixFileEnv(), query).value_or(std::vector<cache::Holding>());
}

// The sealer works when nobody listens any more; so what it would meet is looked for beforehand.
// Empty: nothing.
std::string WhyUnwritable(const std::string& folder) {
  auto made = cache::PosixFileEnv().MakeFolders(folder);
  if (!made) return made.error().message;
  if (access(folder.c_str(), W_OK | X_OK) == 0) return "";
  return "cannot write to " + folder + ": " + std::strerror(errno);
}

bool IsFull(const std::string& archive, const cache::SealJob& job) {
  struct stat old;
  uint64_t needed = stat(archive.c_str(), &old) == 0 ? static_cast<uint64_t>(old.st_size) : 0;
  for (const cache::ModuleRecord& module : job.modules) needed += module.frame.size();
  struct statvfs space;
  bool known = statvfs(cache::FolderOf(archive).c_str(), &space) == 0;
  return known && uint64_t{space.f_bavail} * space.f_frsize <= needed;
}

}  // namespace

void ArchiveSession::Open(const Handoff& handoff, const cache::BuildKey& key,
                          std::vector<std::string> suffixes) {
  explain_ = handoff.explain;
  wait_for_seal_ = handoff.wait_for_seal;
  unasked_ = handoff.cache_sealed;
  readonly_ = handoff.cache_readonly || unasked_;
  refresh_ = handoff.cache_refresh;
  max_bytes_ = handoff.cache_size;
  sealer_ = handoff.LibraryFile(kSealerFile);
  key_ = key;
  path_ = handoff.cache_folder + "/" + key.FileName();
  enabled_ = true;
  constexpr char kNoneYet[] = ": none yet";
  std::string without = kNoneYet;
  if (!refresh_) {
    auto opened = cache::Archive::Open(cache::PosixFileEnv(), path_, key);
    if (opened) {
      archive_ = std::move(*opened);
    } else if (opened.error().code != cache::ErrorCode::kNotFound) {
      without = ": not used";
      Warn(opened.error().message + "; running without it");
    } else if (unasked_) {
      Warn("no archive in " + handoff.cache_folder + " for this Python; running without it");
    }
  }
  if (std::string why = readonly_ ? "" : WhyUnwritable(handoff.cache_folder); !why.empty()) {
    readonly_ = true;
    if (without == kNoneYet) without = ": none: " + why;
    // An archive that was put into a read-only place is meant to be used, not written. And who has
    // named no folder has a home, perhaps, that nobody can write, as many containers have.
    if (!archive_ && handoff.cache_named) Warn("no archive: " + why);
  }
  if (explain_) {
    Explain(archive_ ? "archive " + path_ + ": " + std::to_string(archive_->module_count()) +
                           " modules, " + std::to_string(archive_->folder_count()) + " folders"
                     : "archive " + path_ + without);
  }
  folders_.Init(std::move(suffixes), archive_.get(), unasked_);
}

void ArchiveSession::Warn(const std::string& what) {
  if (MarkTold()) Warning(what);
}

bool ArchiveSession::HoldsUnasked(const std::string& path) const {
  return unasked_ && archive_ && !reject_all_ && archive_->FindModule(path).has_value();
}

bool ArchiveSession::ReadUnaskedCode(const std::string& path, std::string_view* code) {
  return unasked_ && ReadUnproved(path, code);
}

bool ArchiveSession::ReadCode(const std::string& path, const cache::SourceStamp& stamp,
                              int64_t read_at_ns, std::string_view* code) {
  std::optional<cache::Archive::Module> module;
  if (archive_ && !reject_all_) {
    module = archive_->FindModule(path);
    if (!module) RejectIfDamaged();
  }
  if (!module) {
    ++misses_;
    NoteArchiveAnswer(ArchiveAnswer::kAbsent, 0);
    return false;
  }
  bool restamp = module->entry.stamp != stamp;
  if (restamp && !ProvedByDigest(path, module->entry, stamp)) {
    ++stale_;
    NoteArchiveAnswer(ArchiveAnswer::kStale, 0);
    return false;
  }
  if (!ReadFrame(*module, code)) return false;
  if (restamp) {
    ++by_digest_;
    Add({path, stamp, read_at_ns, "", "", 0, true});
  }
  return true;
}

bool ArchiveSession::Has(const std::string& path, const cache::SourceStamp& stamp) const {
  if (!archive_ || reject_all_) return false;
  std::optional<cache::Archive::Module> module = archive_->FindModule(path);
  return module && module->entry.stamp == stamp && module->entry.digest;
}

bool ArchiveSession::ReadUnproved(const std::string& path, std::string_view* code) {
  if (!archive_ || reject_all_) return false;
  std::optional<cache::Archive::Module> module = archive_->FindModule(path);
  return module && ReadFrame(*module, code);
}

bool ArchiveSession::ReadFrame(const cache::Archive::Module& module, std::string_view* code) {
  if (!module.in->ReadCode(module.entry, &code_)) {
    RejectCode(std::string(module.entry.path));
    return false;
  }
  ++hits_;
  NoteArchiveAnswer(ArchiveAnswer::kHit, code_.size());
  *code = code_;
  return true;
}

// Reading the source costs about what reading its .pyc would, and less than compiling it.
bool ArchiveSession::ProvedByDigest(const std::string& path, const cache::ModuleEntry& entry,
                                    const cache::SourceStamp& stamp) const {
  if (!entry.digest || entry.stamp.size != stamp.size) return false;
  auto source = cache::PosixFileEnv().ReadFile(path, stamp.size);
  return source && source->size() == stamp.size && cache::DigestOf(*source) == *entry.digest;
}

// Damage in the index can make an entry seem absent, which nobody would notice otherwise.
void ArchiveSession::RejectIfDamaged() {
  if (archive_->damaged()) Reject("its index is damaged");
}

void ArchiveSession::RejectCode(const std::string& path) {
  ++misses_;
  NoteArchiveAnswer(ArchiveAnswer::kCorrupt, 0);
  Reject("code of " + path);
}

void ArchiveSession::Reject(const std::string& why) {
  if (reject_all_) return;
  // One bad spot makes the whole file suspect: this start takes no more code from it. What is still
  // whole is for the sealer to find out, who has the time to look.
  reject_all_ = true;
  Warn("archive " + path_ + " is corrupt (" + why + ")");
}

void ArchiveSession::Add(cache::ModuleRecord module) {
  if (readonly_ || !cache::IsProvable(module.stamp.mtime_ns, module.read_at_ns)) return;
  modules_.push_back(std::move(module));
}

void ArchiveSession::AddFromPyc(const std::string& path, const cache::SourceStamp& stamp,
                                int64_t read_at_ns, std::string pyc_path, bool compiled) {
  Add({path, stamp, read_at_ns, std::move(pyc_path), "", 0, compiled});
}

void ArchiveSession::AddFromCode(const std::string& path, const cache::SourceStamp& stamp,
                                 int64_t read_at_ns, std::string_view code) {
  if (readonly_ || !cache::IsProvable(stamp.mtime_ns, read_at_ns)) return;
  auto frame = cache::Compress(code, kForegroundLevel);
  if (!frame) return;
  Add({path, stamp, read_at_ns, "", std::move(*frame), static_cast<uint32_t>(code.size()), true});
}

cache::SealJob ArchiveSession::TakeJob() {
  cache::SealJob job;
  job.archive_path = path_;
  job.key = key_;
  job.discard_existing = refresh_;
  job.max_bytes = max_bytes_;
  job.modules = std::move(modules_);
  job.folders = folders_.TakeNew();
  modules_.clear();
  return job;
}

bool ArchiveSession::ReadMemo(const std::string& key, std::string_view* memo) {
  return ReadUnproved(key, memo);
}

void ArchiveSession::AddMemo(const std::string& key, int64_t read_at_ns, std::string_view memo) {
  AddFromCode(key, cache::SourceStamp{}, read_at_ns, memo);
}

bool ArchiveSession::WorthSealing(const cache::SealJob& job) const {
  return !job.modules.empty() || job.folders.size() >= kFoldersWorthSealing;
}

void ArchiveSession::Seal(bool ending) {
  if (!enabled_ || readonly_) return;
  cache::SealJob job = TakeJob();
  if (!WorthSealing(job)) return;
  // Whoever failed to write left something to write, so that this is the place to ask for the note.
  if (std::string note = cache::TakeNote(cache::PosixFileEnv(), path_); !note.empty()) {
    Warn("the archive could not be written at an earlier start: " + note);
  }
  if (IsFull(path_, job)) {
    readonly_ = true;
    Warn("no archive: no space left in " + cache::FolderOf(path_));
    return;
  }
  refresh_ = false;  // Later jobs of this process add to what this one writes.
  if (explain_) {
    Explain("archive: sealing " + std::to_string(job.modules.size()) + " modules, " +
            std::to_string(job.folders.size()) + " folders");
  }
  // PID 1 takes the whole namespace with it when it exits, the sealer too (pid_namespaces(7)).
  SealWait wait = ending ? SealWait::kEnding : SealWait::kNot;
  if (wait_for_seal_ || getpid() == 1) wait = SealWait::kUntilDone;
  job.others = ImagesBeside(path_);
  std::string error = RunSealer(sealer_, job, wait);
  if (!error.empty()) Warn(error);
  // Told right now.
  if (wait == SealWait::kUntilDone && !error.empty()) {
    (void)cache::TakeNote(cache::PosixFileEnv(), path_);
  }
}

bool ArchiveSession::SealAndWait() {
  cache::SealJob job = TakeJob();
  if (job.modules.empty() && job.folders.empty()) return true;
  // The first record of a path counts, and what the builder itself imported has no digest.
  std::stable_partition(job.modules.begin(), job.modules.end(),
                        [](const cache::ModuleRecord& module) { return module.compiled; });
  refresh_ = false;
  job.others = ImagesBeside(path_);
  std::string error = RunSealer(sealer_, job, SealWait::kUntilDone);
  std::string why = error.empty() ? "" : cache::TakeNote(cache::PosixFileEnv(), path_);
  if (!error.empty()) ErrorReport(error, why, "");
  return error.empty();
}

void ArchiveSession::Detach() {
  folders_.Invalidate();
  archive_.reset();
  modules_.clear();
  proved_.clear();
  enabled_ = readonly_ = reject_all_ = false;
  hits_ = misses_ = stale_ = 0;
}

void ArchiveSession::ReportCounts() const {
  if (!enabled_ || !explain_) return;
  Explain("archive: " + std::to_string(hits_) + (hits_ == 1 ? " hit, " : " hits, ") +
          std::to_string(misses_) + (misses_ == 1 ? " miss, " : " misses, ") +
          std::to_string(stale_) + " stale" +
          (by_digest_ > 0 ? ", " + std::to_string(by_digest_) + " by digest" : ""));
}

}  // namespace pylaunch::engine
