#include "launcher/engine/archive_session.h"

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "cache/codec.h"
#include "launcher/engine/clock.h"
#include "launcher/engine/journal.h"
#include "launcher/engine/report.h"
#include "launcher/engine/seal_process.h"

namespace pylaunch::engine {
namespace {

// Frames made while the program waits: fast beats small. The sealer compresses what it reads itself
// at a better level.
constexpr int kForegroundLevel = 1;

// A folder that changes in every run (the program writes its results there) is not worth rewriting
// the archive for.
constexpr size_t kFoldersWorthSealing = 8;

// Set once this process tree has been told that its archive is unusable; children inherit it.
constexpr const char* kWarnedVariable = "PYLAUNCH_WARNED";

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
  readonly_ = handoff.cache_readonly;
  refresh_ = handoff.cache_refresh;
  sealer_ = handoff.sealer;
  key_ = key;
  path_ = handoff.cache_folder + "/" + key.FileName();
  enabled_ = true;
  if (!refresh_) {
    auto opened = cache::ArchiveReader::Open(cache::PosixFileEnv(), path_, key);
    if (opened) {
      reader_ = std::move(*opened);
    } else if (opened.error().code != cache::ErrorCode::kNotFound) {
      Warn(opened.error().message + "; running without it");
    }
  }
  if (std::string why = readonly_ ? "" : WhyUnwritable(handoff.cache_folder); !why.empty()) {
    readonly_ = true;
    // An archive that was put into a read-only place is meant to be used, not written.
    if (!reader_) Warn("no archive: " + why);
  }
  if (explain_) {
    Explain(reader_ ? "archive " + path_ + ": " + std::to_string(reader_->module_count()) +
                          " modules, " + std::to_string(reader_->folder_count()) + " folders"
                    : "archive " + path_ + ": none yet");
  }
  folders_.Init(std::move(suffixes), reader_.get());
}

void ArchiveSession::Warn(const std::string& what) {
  if (getenv(kWarnedVariable) != nullptr) return;
  setenv(kWarnedVariable, "1", 1);
  Warning(what);
}

bool ArchiveSession::ReadCode(const std::string& path, const cache::SourceStamp& stamp,
                              std::string_view* code) {
  std::optional<cache::ModuleEntry> entry;
  if (reader_ && !reject_all_) entry = reader_->FindModule(path);
  if (!entry) {
    ++misses_;
    NoteArchiveAnswer(ArchiveAnswer::kAbsent, 0);
    return false;
  }
  if (entry->stamp != stamp) {
    ++stale_;
    NoteArchiveAnswer(ArchiveAnswer::kStale, 0);
    return false;
  }
  if (auto read = reader_->ReadCode(*entry, &code_); !read) {
    RejectCode(path);
    return false;
  }
  ++hits_;
  NoteArchiveAnswer(ArchiveAnswer::kHit, code_.size());
  *code = code_;
  return true;
}

void ArchiveSession::RejectCode(const std::string& path) {
  ++misses_;
  NoteArchiveAnswer(ArchiveAnswer::kCorrupt, 0);
  if (reject_all_) return;
  // One bad frame makes the whole file suspect: take nothing more from it, and write a new one.
  reject_all_ = refresh_ = true;
  Warn("archive " + path_ + " is corrupt (code of " + path + ")");
}

void ArchiveSession::AddFromPyc(const std::string& path, const cache::SourceStamp& stamp,
                                int64_t read_at_ns, std::string pyc_path) {
  if (readonly_ || !cache::IsProvable(stamp.mtime_ns, read_at_ns)) return;
  modules_.push_back({path, stamp, read_at_ns, std::move(pyc_path), "", 0});
}

void ArchiveSession::AddFromCode(const std::string& path, const cache::SourceStamp& stamp,
                                 int64_t read_at_ns, std::string_view code) {
  if (readonly_ || !cache::IsProvable(stamp.mtime_ns, read_at_ns)) return;
  auto frame = cache::Compress(code, kForegroundLevel);
  if (!frame) return;
  modules_.push_back(
      {path, stamp, read_at_ns, "", std::move(*frame), static_cast<uint32_t>(code.size())});
}

bool ArchiveSession::ReadMemo(const std::string& key, std::string_view* memo) {
  const bool known = reader_ && !reject_all_ && reader_->FindModule(key);
  return known && ReadCode(key, cache::SourceStamp{}, memo);
}

void ArchiveSession::AddMemo(const std::string& key, int64_t read_at_ns, std::string_view memo) {
  AddFromCode(key, cache::SourceStamp{}, read_at_ns, memo);
}

bool ArchiveSession::WorthSealing(const cache::SealJob& job) const {
  return !job.modules.empty() || job.folders.size() >= kFoldersWorthSealing;
}

void ArchiveSession::Seal(bool ending) {
  if (!enabled_ || readonly_) return;
  cache::SealJob job;
  job.archive_path = path_;
  job.key = key_;
  job.discard_existing = refresh_;
  job.modules = std::move(modules_);
  job.folders = folders_.TakeNew();
  modules_.clear();
  if (!WorthSealing(job)) return;
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
  std::string error = RunSealer(sealer_, job, wait);
  if (!error.empty()) Warn(error);
}

void ArchiveSession::Detach() {
  folders_.Invalidate();
  reader_.reset();
  modules_.clear();
  proved_.clear();
  enabled_ = readonly_ = reject_all_ = false;
  hits_ = misses_ = stale_ = 0;
}

void ArchiveSession::ReportCounts() const {
  if (!enabled_ || !explain_) return;
  Explain("archive: " + std::to_string(hits_) + " hits, " + std::to_string(misses_) + " misses, " +
          std::to_string(stale_) + " stale");
}

}  // namespace pylaunch::engine
