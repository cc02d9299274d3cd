#include "launcher/engine/image_builder.h"

#include <Python.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <string>

#include "cache/file_env.h"
#include "image/capture.h"
#include "image/collection.h"
#include "image/key.h"
#include "image/packed_proofs.h"
#include "launcher/engine/clock.h"
#include "launcher/engine/environ_users.h"
#include "launcher/engine/exit_handlers.h"
#include "launcher/engine/process_state.h"
#include "launcher/engine/progress.h"
#include "launcher/engine/py_ref.h"
#include "launcher/engine/read_record.h"
#include "launcher/engine/reads_recording.h"
#include "launcher/engine/report.h"
#include "launcher/engine/resume.h"

#pragma weak PyModule_Type

namespace pylaunch::engine {
namespace {

ProcessState* g_before = nullptr;
Resumption* g_resumption = nullptr;

// Never freed: a restored process would copy these from the image, page by page, to do so.
const ReadRecord* g_read = nullptr;
const image::VariableReads* g_variables = nullptr;

// Where `importlib` looked: the finders' folders, stock's and ours, and what stands in sys.path
// without being one.
std::set<std::string> SearchedFolders(ArchiveSession* session) {
  std::set<std::string> folders;
  for (std::string& path : session->folders().Paths()) folders.insert(std::move(path));
  PyObject* importers = PySys_GetObject("path_importer_cache");
  PyObject *name, *finder;
  for (Py_ssize_t i = 0; importers != nullptr && PyDict_Check(importers) &&
                         PyDict_Next(importers, &i, &name, &finder);) {
    std::string path;
    if (FileSystemBytes(name, &path)) folders.insert(path.empty() ? "." : path);
  }
  return folders;
}

void AddString(PyObject* object, const char* attribute, std::set<std::string>* paths) {
  PyRef value = PyRef::Steal(PyObject_GetAttrString(object, attribute));
  std::string path;
  if (value && FileSystemBytes(value.get(), &path) && path[0] == '/') paths->insert(path);
  PyErr_Clear();
}

// Sources and extensions of all modules; `site`'s files.
std::set<std::string> ModuleFiles(const std::set<std::string>& folders) {
  std::set<std::string> paths;
  PyObject* modules = PyImport_GetModuleDict();
  PyRef list = PyRef::Steal(PyDict_Values(modules));
  for (Py_ssize_t i = 0; list && i < PyList_GET_SIZE(list.get()); ++i) {
    PyObject* module = PyList_GET_ITEM(list.get(), i);
    if (!PyModule_Check(module)) continue;
    PyObject* dict = PyModule_GetDict(module);
    PyObject* spec = PyDict_GetItemString(dict, "__spec__");
    if (spec != nullptr && spec != Py_None) AddString(spec, "origin", &paths);
    std::string file;
    if (FileSystemBytes(PyDict_GetItemString(dict, "__file__"), &file) && file[0] == '/') {
      paths.insert(file);
    }
  }
  for (const std::string& folder : folders) {
    auto names = cache::PosixFileEnv().ListFolder(folder);
    if (!names) {
      paths.insert(folder);  // A zip file, or not there.
      continue;
    }
    for (const std::string& name : *names) {
      if (name.ends_with(".pth")) paths.insert(folder + "/" + name);
    }
  }
  return paths;
}

// Everything the image was made of must have been as it is now before anything was read; file
// systems stamp with a coarse clock (cache/stamp.h).
bool IsSettled(const image::FileState& state, int64_t started_ns) {
  return cache::IsProvable(std::max(state.ctime_ns, state.mtime_ns), started_ns);
}

class KeyMaker {
 public:
  KeyMaker(const Handoff& handoff, ArchiveSession* session, const ReadRecord& read,
           const image::VariableReads& variables)
      : handoff_(handoff), read_(read), variables_(variables), asked_(read.asked) {
    folders_ = SearchedFolders(session);
    files_ = ModuleFiles(folders_);
    for (const std::string& path : session->proved()) files_.insert(path);
    AddFilesIn(handoff.image.hooks);
    AddFilesIn(handoff.image.hooks + "/hooks");
    const std::string bin = handoff.python.substr(0, handoff.python.rfind('/'));
    files_.insert(
        {handoff.python, bin + "/pyvenv.cfg", bin.substr(0, bin.rfind('/')) + "/pyvenv.cfg"});
  }

  // An empty string, or why these files prove nothing.
  std::string Make(const std::vector<std::string>& mapped, image::Key* key) {
    files_.insert(mapped.begin(), mapped.end());
    if (LooksForModulesHere()) asked_.insert(kWorkingDirectory);
    std::vector<image::FileProof> proofs;
    for (const auto& [path, first] : read_.paths) {
      std::string why = AddAnswers(path, first, &proofs);
      if (why.empty() && first.names) why = AddNames(path, *first.names, key);
      if (!why.empty()) return why;
    }
    for (const std::string& path : files_) {
      if (std::string why = AddAnswer(path, /*link=*/false, nullptr, &proofs); !why.empty()) {
        return why;
      }
    }
    DropFoldersToHere(&proofs);
    DropFoldersLookedInto(&proofs);
    key->files = image::PackProofs(proofs);
    for (const std::string& path : folders_) {
      if (std::string why = NewIn(path); !why.empty()) return why + " is new since this start";
      key->folders.push_back(image::ProveFolder(path, RealtimeNs(), /*all=*/false));
    }
    AddFacts(key);
    return "";
  }

 private:
  void AddFacts(image::Key* key) const {
    const ImageOrder& order = handoff_.image;
    key->reads = variables_;
    std::string& all = key->reads.all;
    if (RunsLibrariesOfTheUser()) all = "LD_PRELOAD or LD_AUDIT is set";
    if (all.empty()) {
      all = EnvironUser(order.hooks + "/environ_libraries.txt");
      if (!all.empty()) all += " uses C's environ";
    }
    key->asked.assign(asked_.begin(), asked_.end());
    key->facts = order.facts;
    for (image::Fact& fact : image::Asked(order.askable, key->asked)) {
      key->facts.push_back(std::move(fact));
    }
    for (image::Fact& fact : image::Counting(order.environment, key->reads)) {
      key->facts.push_back(std::move(fact));
    }
  }

  // `first`: what was so when it was asked; null: nobody knows.
  std::string AddAnswer(const std::string& path, bool link, const image::FileState* first,
                        std::vector<image::FileProof>* proofs) {
    const image::FileState now = image::AskedOf(path, link);
    if (!IsSettled(now, handoff_.image.started_ns)) return path + std::string(image::kTooYoung);
    if (first != nullptr && now != *first) {
      // Who makes a folder if there is none is content with one that is there.
      const bool made = read_.made.count(path) != 0 && *first == image::FileState();
      if (!made || !IsFolder(path)) return path + " changed while preloading";
    }
    const bool absent = now == image::FileState();
    const bool here = IsSoughtHere(path);
    if (here && !absent) asked_.insert(kWorkingDirectory);
    // So nothing is there whichever the working directory is.
    proofs->push_back({here && absent ? path.substr(FolderPrefix().size()) : path, now, link});
    return "";
  }

  std::string AddAnswers(const std::string& path, const ReadRecord::Path& first,
                         std::vector<image::FileProof>* proofs) {
    const bool same = first.link && first.target && *first.link == *first.target;  // No link.
    std::string why;
    if (first.link) why = AddAnswer(path, /*link=*/true, &*first.link, proofs);
    if (first.target && !same && why.empty()) {
      why = AddAnswer(path, /*link=*/false, &*first.target, proofs);
    }
    if (first.link || first.target) files_.erase(path);
    return why;
  }

  std::string AddNames(const std::string& path, const image::FolderNames& first, image::Key* key) {
    if (std::string why = NewIn(path); !why.empty()) return why + " is new since this start";
    // Programs write results where they run.
    const bool all = !IsProgramFolder(path);
    key->folders.push_back(image::ProveFolder(path, RealtimeNs(), all));
    if (key->folders.back().names == (all ? first.all : first.importable)) return "";
    return "the names in " + path + " changed while preloading";
  }

  std::string FolderPrefix() const { return read_.folder == "/" ? "/" : read_.folder + "/"; }

  // By a relative path, or by one that may be made of getcwd's. (Who has only called that may mean
  // nothing by it: multiprocessing does when it is imported, and inspect for names of no file.)
  bool IsSoughtHere(const std::string& path) const {
    return read_.relative.count(path) != 0 ||
           (read_.asked_folder && path.size() > FolderPrefix().size() &&
            path.starts_with(FolderPrefix()));
  }

  // os.path.realpath of such a path asks about all folders on the way from the root, which are
  // there for every start. Those that lead to something else that is proved do count.
  void DropFoldersToHere(std::vector<image::FileProof>* proofs) const {
    if (!read_.asked_folder && read_.relative.empty()) return;
    const auto leads_here = [&](const std::string& path) {
      return path == "/" || FolderPrefix().starts_with(path + "/");
    };
    std::set<std::string> elsewhere;
    for (const image::FileProof& proof : *proofs) {
      if (!leads_here(proof.path) && proof.state != image::FileState()) {
        elsewhere.insert(proof.path);
      }
    }
    std::erase_if(*proofs, [&](const image::FileProof& proof) {
      if (!leads_here(proof.path) || proof.path == "/") return false;
      const auto below = elsewhere.lower_bound(proof.path + "/");
      return below == elsewhere.end() || !below->starts_with(proof.path + "/");
    });
  }

  // Their own proofs say the same (image/key.h).
  void DropFoldersLookedInto(std::vector<image::FileProof>* proofs) const {
    std::erase_if(*proofs, [&](const image::FileProof& proof) {
      const bool folder = proof.state.inode != 0 && proof.state.ctime_ns == 0;
      const auto asked = read_.paths.find(proof.path);
      const bool listed = asked != read_.paths.end() && asked->second.names.has_value();
      return folder && (listed || folders_.count(proof.path) != 0);
    });
  }

  // sys.path may name folders relative to the working directory, or have done so.
  static bool LooksForModulesHere() {
    PyObject* path = PySys_GetObject("path");
    PyObject* importers = PySys_GetObject("path_importer_cache");
    const auto relative = [](PyObject* name) {
      std::string text;
      return FileSystemBytes(name, &text) && !text.starts_with('/');
    };
    for (Py_ssize_t i = 0; path != nullptr && PyList_Check(path) && i < PyList_GET_SIZE(path);
         ++i) {
      if (relative(PyList_GET_ITEM(path, i))) return true;
    }
    PyObject *name, *finder;
    for (Py_ssize_t i = 0; importers != nullptr && PyDict_Check(importers) &&
                           PyDict_Next(importers, &i, &name, &finder);) {
      if (relative(name)) return true;
    }
    return false;
  }

  void AddFilesIn(const std::string& folder) {
    auto names = cache::PosixFileEnv().ListFolder(folder);
    for (const std::string& name : names ? *names : std::vector<std::string>()) {
      if (!IsFolder(folder + "/" + name)) files_.insert(folder + "/" + name);
    }
  }

  // Whose constructors run before anything of ours (ld.so(8)).
  bool RunsLibrariesOfTheUser() const {
    const image::Facts& set = handoff_.image.environment;
    return std::any_of(set.begin(), set.end(), [](const image::Fact& fact) {
      return fact.name == "variable LD_PRELOAD" || fact.name == "variable LD_AUDIT";
    });
  }

  // A name that came after the folder was looked into. Only folders that changed can have one.
  std::string NewIn(const std::string& folder) const {
    constexpr int64_t kTick = 20'000'000;  // Of the clock that stamps files.
    const int64_t start = handoff_.image.started_ns - kTick;
    if (image::StateOf(folder).ctime_ns < start) return "";
    auto names = cache::PosixFileEnv().ListFolder(folder);
    if (!names) return "";
    for (const std::string& name : *names) {
      const std::string path = folder + "/" + name;
      struct statx st;
      if (!image::IsImportable(name)) continue;
      if (statx(AT_FDCWD, path.c_str(), 0, STATX_BTIME, &st) != 0) continue;
      const int64_t born = st.stx_btime.tv_sec * 1'000'000'000 + st.stx_btime.tv_nsec;
      if (born >= start) return path;
    }
    return "";
  }

  static bool IsFolder(const std::string& path) {
    struct stat st;
    return stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
  }

  bool IsProgramFolder(const std::string& path) const {
    struct stat here, listed;
    if (stat(path.c_str(), &listed) != 0) return false;
    const auto& command = handoff_.image.command;
    const auto folder = std::find_if(command.begin(), command.end(), [](const image::Fact& fact) {
      return fact.name == "program folder";
    });
    return folder != command.end() && stat(folder->value.c_str(), &here) == 0 &&
           here.st_dev == listed.st_dev && here.st_ino == listed.st_ino;
  }

  const Handoff& handoff_;
  const ReadRecord& read_;
  const image::VariableReads& variables_;
  std::set<std::string> asked_;  // Askable facts.
  std::set<std::string> folders_;
  std::set<std::string> files_;
};

// Writes and publishes what the capturing process has made; in that process.
class Publisher {
 public:
  explicit Publisher(const Handoff& handoff)
      : handoff_(handoff),
        note_(image::NoteFor(handoff.image.folder, handoff.image.command, handoff.image.facts)),
        temp_(note_.substr(0, note_.rfind('.')) + ".img." + std::to_string(getpid()) + ".tmp") {}
  const std::string& temp() const { return temp_; }
  // What is said of it from here on is this attempt's.
  void ForgetNote() const { unlink(note_.c_str()); }
  void LeaveNote(const std::string& refusal) const { WriteFile(note_, refusal); }
  // For the start that makes the next image.
  bool LeaveLate(const image::LateEntries& entries) const {
    const ImageOrder& order = handoff_.image;
    return WriteFile(image::LateFor(order.folder, order.command, order.facts),
                     image::Serialize(entries));
  }

  void Publish(std::string refusal, KeyMaker* maker, const std::vector<std::string>& mapped) {
    image::Key key;
    if (refusal.empty()) refusal = maker->Make(mapped, &key);
    if (refusal.empty()) refusal = Write(&key);
    if (!refusal.empty()) {
      unlink(temp_.c_str());
      LeaveNote(refusal);
      return;
    }
    ForgetNote();
    (void)image::PruneCache(cache::PosixFileEnv(), handoff_.cache_folder, handoff_.cache_size,
                            files_.image, /*thoroughly=*/false);
  }

 private:
  static bool WriteFile(const std::string& path, const std::string& bytes) {
    cache::FileEnv& env = cache::PosixFileEnv();
    auto file = env.CreateTemp(path);
    if (!file) return false;
    const std::string temp = (*file)->path();
    if ((*file)->Append(bytes) && (*file)->Sync() && env.Rename(temp, path)) return true;
    unlink(temp.c_str());
    return false;
  }

  std::string Write(image::Key* key) {
    auto mapped = cache::PosixFileEnv().Map(temp_);
    if (!mapped) return mapped.error().message;
    image::Header header;
    if (mapped->size() < sizeof header ||
        !mapped->Read(0, sizeof header, reinterpret_cast<char*>(&header))) {
      return "truncated";
    }
    key->table_size = header.data_offset;
    key->table = image::TableHash(mapped->view().substr(0, header.data_offset));
    const std::optional<uint64_t> content = image::ContentHash(temp_);
    if (!content) return "it cannot be read back";
    key->content = *content;
    for (const image::LateEntry& entry : handoff_.image.late) {
      key->late.push_back(InWords(handoff_.plan, entry));
    }
    files_ = image::FilesFor(handoff_.image.folder, handoff_.image.command, key->facts);
    return Replace(key);
  }

  // Of starts at once the first one's image stays: it is as good, and somebody may have been told
  // of it. Without the lock, one's key could come to lie beside the other's image.
  std::string Replace(image::Key* key) const {
    const int folder = open(handoff_.image.folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    flock(folder, LOCK_EX);  // Until this process ends.
    const bool published = access(files_.key.c_str(), F_OK) == 0 &&
                           image::StateOf(files_.image).mtime_ns > handoff_.image.started_ns;
    if (published) return unlink(temp_.c_str()) == 0 ? "" : "its temporary file is gone";
    // The old key is for the old image; in between there is none.
    unlink(files_.key.c_str());
    if (rename(temp_.c_str(), files_.image.c_str()) != 0) return "rename failed";
    key->image = image::StateOf(files_.image);
    return WriteFile(files_.key, key->Serialize()) ? "" : files_.key + " cannot be written";
  }

  const Handoff& handoff_;
  std::string note_;
  std::string temp_;
  image::ImageFiles files_;  // Known with the key.
};

std::string WhyNot(const Handoff& handoff, const ReadRecord& read) {
  if (!read.unknown.empty()) return "what preloading read is not known: " + read.unknown;
  auto made = cache::PosixFileEnv().MakeFolders(handoff.image.folder);
  return made ? "" : made.error().message;
}

// The next image is made without the entries that left something, if that is all that speaks
// against one. Returns in words why there is none now.
std::string SeparateLate(const Handoff& handoff, const EntryWatch::Blame& blame,
                         const Publisher& publisher, bool* separated) {
  if (!blame.nobody.empty()) return blame.nobody;
  *separated = publisher.LeaveLate(image::Merge(handoff.image.late, blame.entries));
  std::string words;
  for (const image::LateEntry& entry : blame.entries) {
    if (!words.empty()) words += ", ";
    words += InWords(handoff.plan, entry);
  }
  return words + (*separated ? "; from the next start on imported late" : "");
}

// How much of the image at `temp` is written.
void ShowWriting(const std::string& temp, Progress* progress) {
  struct stat st;
  if (stat(temp.c_str(), &st) != 0 || st.st_size == 0) return;
  constexpr uint64_t kBlock = 512, kMiB = 1 << 20;
  const auto size = static_cast<uint64_t>(st.st_size);
  const uint64_t written = std::min(static_cast<uint64_t>(st.st_blocks) * kBlock, size);
  progress->Show(written, size,
                 std::to_string(written / kMiB) + "/" + std::to_string(size / kMiB) + " MiB");
}

}  // namespace

void PrepareForImage(const ImageOrder& order, int argc, char** argv) {
  image::WatchForks();
  RecordExitHandlers();
  rlimit limit;
  getrlimit(RLIMIT_STACK, &limit);
  limit.rlim_cur = order.stack_limit;
  setrlimit(RLIMIT_STACK, &limit);
  // What glibc would have taken from the limit for threads (nptl/nptl-stack.c); without one, it
  // did.
  if (order.stack_limit != RLIM_INFINITY) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, order.stack_limit);
    pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
  }
  g_resumption = new Resumption;
  g_resumption->Note(argc, argv);
  g_before = new ProcessState(ProcessState::Now());
}

void EndOfPreload() {
  g_read = new ReadRecord(StopReadRecord());
  g_variables = new image::VariableReads(StopImageReads());
}

std::string InWords(const PreloadPlan& plan, const image::LateEntry& late) {
  const PreloadEntry& entry = plan.entries[late.index];
  return entry.location.ToString() + ": '" + entry.text + "' " + late.left;
}

const image::Restored* CaptureImage(Handoff* handoff, ArchiveSession* session,
                                    const EntryWatch& watch) {
  const ReadRecord& read = *g_read;
  std::string refusal = WhyNot(*handoff, read);
  Publisher publisher(*handoff);
  if (handoff->image_only) publisher.ForgetNote();
  bool separated = false;
  if (refusal.empty()) {
    const auto left = WhatWasLeft(*g_before, ProcessState::Now());
    KeyMaker* maker = nullptr;
    Progress progress(handoff->image_only);
    image::CaptureRequest request;
    request.path = publisher.temp();
    request.allowed_secrets = handoff->image.allowed;
    request.threads_only = !left.empty();
    request.wait = handoff->wait_for_seal || handoff->image_only;
    if (progress.on()) request.waiting = [&] { ShowWriting(publisher.temp(), &progress); };
    request.prepare = [&] {
      maker = new KeyMaker(*handoff, session, read, *g_variables);
      session->Detach();
      return g_resumption->Prepare(handoff->image.hooks);
    };
    request.finish = [&](const std::string& why, const std::vector<std::string>& mapped) {
      publisher.Publish(why, maker, mapped);
    };
    PyOS_BeforeFork();
    const image::CaptureResult result = image::Capture(request);
    if (result.restored != nullptr) return result.restored;
    PyOS_AfterFork_Parent();
    refusal = result.refusal;
    if (refusal.empty() && (!left.empty() || !result.threads.empty())) {
      refusal = SeparateLate(*handoff, watch.Judge(left, result.threads), publisher, &separated);
    }
  }
  if (handoff->image_only && !refusal.empty() && !separated) publisher.LeaveNote(refusal);
  if (handoff->explain) {
    Explain(refusal.empty() ? "image: being made in " + handoff->image.folder
                            : "image: not made: " + refusal);
    if (refusal.empty() && !g_variables->all.empty()) {
      Explain("image: only for an environment that is wholly the same: " + g_variables->all);
    }
  }
  return nullptr;
}

bool ResumeImage(const image::Restored& restored, Handoff* handoff) {
  return g_resumption->Resume(restored, handoff);
}

}  // namespace pylaunch::engine
