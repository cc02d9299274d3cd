#ifndef PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_ARCHIVE_SESSION_H_
#define PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_ARCHIVE_SESSION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cache/archive.h"
#include "cache/seal.h"
#include "launcher/contract/handoff.h"
#include "launcher/engine/archive/folders.h"

namespace pylaunch::engine {

// The archive as one process uses it: opened once, asked by the finder, and at the end told what
// was new. No Python here; calls need the GIL only because they are not otherwise synchronised.
class ArchiveSession {
 public:
  // Opens the archive of `key` in the handoff's folder. An archive that cannot be used is told in
  // one line (unless there is simply none yet) and treated as empty; it is replaced when this
  // session seals.
  void Open(const Handoff& handoff, const cache::BuildKey& key, std::vector<std::string> suffixes);
  bool enabled() const { return enabled_; }
  // False: what is noted here goes nowhere.
  bool writable() const { return enabled_ && !readonly_; }
  const std::string& path() const { return path_; }

  Folders& folders() { return folders_; }

  // Files and folders by which kept results of functions were proved and given (pure_functions.h).
  void NoteProved(const std::string& path) { proved_.push_back(path); }
  const std::vector<std::string>& proved() const { return proved_; }

  // True if nothing is asked of the disk (--cache-mode sealed) and the archive has the code of the
  // source at `path`, which therefore need not be looked for on the disk.
  bool HoldsUnasked(const std::string& path) const;
  // Marshal data of the module whose source is `path`, if nothing is asked of the disk; false: not
  // that mode, or not in the archive. `code` is valid until the next call of either.
  bool ReadUnaskedCode(const std::string& path, std::string_view* code);
  // Marshal data of the module whose source is `path`, stamped `stamp` at `read_at_ns`; false on a
  // miss (none, stale or corrupt).
  bool ReadCode(const std::string& path, const cache::SourceStamp& stamp, int64_t read_at_ns,
                std::string_view* code);
  // True if the archive has code for `path` that stamp and digest both prove.
  bool Has(const std::string& path, const cache::SourceStamp& stamp) const;
  // Called when data from ReadCode turned out not to be a code object: tells once and forgets the
  // archive's modules.
  void RejectCode(const std::string& path);

  // Notes a module that CPython loaded itself. Either its .pyc is on disk (`compiled`: and was not
  // before)...
  void AddFromPyc(const std::string& path, const cache::SourceStamp& stamp, int64_t read_at_ns,
                  std::string pyc_path, bool compiled);
  // ...or `code` is its marshal data, just compiled; compressed here.
  void AddFromCode(const std::string& path, const cache::SourceStamp& stamp, int64_t read_at_ns,
                   std::string_view code);
  // Notes what --build has compiled and compressed.
  void Add(cache::ModuleRecord module);

  // What AddMemo was given for `key`, in this process or an earlier one; false on a miss. `memo` is
  // valid until the next call.
  bool ReadMemo(const std::string& key, std::string_view* memo);
  // Keeps a serialized cache::Memo.
  void AddMemo(const std::string& key, int64_t read_at_ns, std::string_view memo);

  // Hands what is new to a pylaunch-sealer that works on its own, and returns at once (or, for PID
  // 1 and with wait_for_seal, when it is done). May be called again later for what came after.
  // `ending`: this process will not run Python code any more.
  void Seal(bool ending);
  // The same, and waits until it is done. False: it failed (which is told).
  bool SealAndWait();

  // Lets go of the archive and of all that was learnt from it or for it; Open may be called again.
  void Detach();

  // For --explain.
  void ReportCounts() const;

 private:
  bool WorthSealing(const cache::SealJob& job) const;
  cache::SealJob TakeJob();
  // What the archive has under `path`, whatever its stamp.
  bool ReadUnproved(const std::string& path, std::string_view* code);
  bool ReadFrame(const cache::Archive::Module& module, std::string_view* code);
  bool ProvedByDigest(const std::string& path, const cache::ModuleEntry& entry,
                      const cache::SourceStamp& stamp) const;
  void RejectIfDamaged();
  void Reject(const std::string& why);
  void Warn(const std::string& what);

  bool enabled_ = false;
  bool readonly_ = false;
  bool unasked_ = false;  // --cache-mode sealed: what the archive says is true.
  bool refresh_ = false;
  bool explain_ = false;
  bool wait_for_seal_ = false;
  bool reject_all_ = false;
  std::string sealer_;
  std::string path_;
  cache::BuildKey key_;
  uint64_t max_bytes_ = 0;
  std::unique_ptr<cache::Archive> archive_;
  Folders folders_;
  std::vector<cache::ModuleRecord> modules_;
  std::string code_;
  std::vector<std::string> proved_;
  uint32_t hits_ = 0;
  uint32_t misses_ = 0;
  uint32_t stale_ = 0;
  uint32_t by_digest_ = 0;  // Of the hits.
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_ARCHIVE_SESSION_H_
