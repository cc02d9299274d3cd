#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMAGING_KEY_MAKER_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMAGING_KEY_MAKER_H_

#include <map>
#include <set>
#include <string>
#include <vector>

#include "image/key.h"
#include "launcher/contract/handoff.h"
#include "launcher/engine/archive/archive_session.h"
#include "launcher/engine/record/file_record.h"

namespace pylaunch::engine {

// Sources and extensions of all modules. Looking at every module writes to it: to be asked for
// before a capturing process is forked, which would come to own a copy of each. Needs the GIL.
std::set<std::string> ModuleFiles();

// The first of the files that a key would be made of which is too young to prove anything, in words
// as for a note; or an empty string. KeyMaker would say so, but only when the image is written.
std::string TooYoung(const Handoff& handoff, const ReadRecord& read,
                     const std::set<std::string>& modules);

// Makes the key of the image of this process: what must be so for the image to be used, of all that
// the process was made of and that it asked. The arguments must outlive it.
class KeyMaker {
 public:
  // `modules`: their files. REQUIRES: the GIL.
  KeyMaker(const Handoff& handoff, ArchiveSession* session, const ReadRecord& read,
           const image::VariableReads& variables, const std::set<std::string>& modules);

  // Of `files` of the kernel, each as often as it stands there, somebody reads it again who has
  // read it while preloading.
  void Renewed(const std::vector<std::string>& files);

  // This askable fact counts, too. Before Make.
  void Ask(const std::string& fact) { asked_.insert(fact); }

  // A file that must be as it is.
  void Add(const std::string& file) { files_.insert(file); }

  // `mapped`: the image's files. An empty string, or why all this proves nothing. Once; when the
  // image has been written, without Python.
  std::string Make(const std::vector<std::string>& mapped, image::Key* key);

 private:
  using Proofs = std::vector<image::FileProof>;

  void AddFacts(image::Key* key) const;
  std::string WhyNotShared(const Proofs& proofs) const;
  void AddFilesIn(const std::string& folder);
  // `first`: what was so when it was asked; null: nobody knows. These return why not, too.
  std::string AddAnswer(const std::string& path, bool link, const image::FileState* first,
                        Proofs* proofs);
  std::string AddAnswers(const std::string& path, const ReadRecord::Path& first, Proofs* proofs);
  std::string AddNames(const std::string& path, const image::FolderNames& first, image::Key* key);
  void DropFoldersToHere(Proofs* proofs) const;
  void DropFoldersLookedInto(Proofs* proofs) const;

  // By a relative path, or by one that may be made of getcwd's. (Who has only called that may mean
  // nothing by it: multiprocessing does when it is imported, and inspect for names of no file.)
  bool IsSoughtHere(const std::string& path) const;
  bool IsProgramFolder(const std::string& path) const;
  bool RunsLibrariesOfTheUser() const;
  // The cache folder, or one that it lies in.
  bool LeadsToCache(const std::string& path) const;
  // A name that came after the folder was looked into. Only folders that changed can have one.
  std::string NewIn(const std::string& folder) const;

  const Handoff& handoff_;
  const ReadRecord& read_;
  const image::VariableReads& variables_;
  const std::string here_;                 // The working directory, with a slash at the end.
  std::set<std::string> asked_;            // Askable facts.
  std::set<std::string> folders_;          // That modules were looked for in.
  std::set<std::string> files_;            // That nobody need have asked for.
  std::map<std::string, size_t> renewed_;  // Calls for kernel files that do not count, by fact.
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMAGING_KEY_MAKER_H_
