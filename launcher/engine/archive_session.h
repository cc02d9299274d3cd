#ifndef PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_SESSION_H_
#define PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_SESSION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cache/archive_reader.h"
#include "cache/seal.h"
#include "launcher/engine/folders.h"
#include "launcher/handoff.h"

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

  Folders& folders() { return folders_; }

  // Files and folders by which kept results of functions were proved and given (pure_functions.h).
  void NoteProved(const std::string& path) { proved_.push_back(path); }
  const std::vector<std::string>& proved() const { return proved_; }

  // Marshal data of the module whose source is `path`, stamped `stamp`; false on a miss (none,
  // stale or corrupt). `code` is valid until the next call.
  bool ReadCode(const std::string& path, const cache::SourceStamp& stamp, std::string_view* code);
  // Called when data from ReadCode turned out not to be a code object: tells once and forgets the
  // archive's modules.
  void RejectCode(const std::string& path);

  // Notes a module that CPython loaded itself. Either its .pyc is on disk...
  void AddFromPyc(const std::string& path, const cache::SourceStamp& stamp, int64_t read_at_ns,
                  std::string pyc_path);
  // ...or `code` is its marshal data, compressed here.
  void AddFromCode(const std::string& path, const cache::SourceStamp& stamp, int64_t read_at_ns,
                   std::string_view code);

  // What AddMemo was given for `key`, in this process or an earlier one; false on a miss. `memo` is
  // valid until the next call.
  bool ReadMemo(const std::string& key, std::string_view* memo);
  // Keeps a serialized cache::Memo.
  void AddMemo(const std::string& key, int64_t read_at_ns, std::string_view memo);
  // False if nothing that is added will be kept.
  bool writes() const { return enabled_ && !readonly_; }

  // Hands what is new to a pylaunch-sealer that works on its own, and returns at once (or, for PID
  // 1 and with wait_for_seal, when it is done). May be called again later for what came after.
  // `ending`: this process will not run Python code any more.
  void Seal(bool ending);

  // Lets go of the archive and of all that was learnt from it or for it; Open may be called again.
  void Detach();

  // For --explain.
  void ReportCounts() const;

 private:
  bool WorthSealing(const cache::SealJob& job) const;
  void Warn(const std::string& what);

  bool enabled_ = false;
  bool readonly_ = false;
  bool refresh_ = false;
  bool explain_ = false;
  bool wait_for_seal_ = false;
  bool reject_all_ = false;
  std::string sealer_;
  std::string path_;
  cache::BuildKey key_;
  std::unique_ptr<cache::ArchiveReader> reader_;
  Folders folders_;
  std::vector<cache::ModuleRecord> modules_;
  std::string code_;
  std::vector<std::string> proved_;
  uint32_t hits_ = 0;
  uint32_t misses_ = 0;
  uint32_t stale_ = 0;
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_SESSION_H_
