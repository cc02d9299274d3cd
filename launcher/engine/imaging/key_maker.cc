#include "launcher/engine/imaging/key_maker.h"

#include <Python.h>
#include <endian.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "cache/descriptor.h"
#include "cache/file_env.h"
#include "cache/stamp.h"
#include "image/content_proof.h"
#include "image/image_files.h"
#include "image/packed_proofs.h"
#include "launcher/engine/base/clock.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/environment/c_environ_users.h"

namespace pylaunch::engine {
namespace {

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

// `site`'s files, and what stands in sys.path without being a folder.
std::set<std::string> FilesIn(const std::set<std::string>& folders) {
  std::set<std::string> paths;
  for (const std::string& folder : folders) {
    auto names = cache::PosixFileEnv().ListFolder(folder);
    if (!names) {
      paths.insert(folder);  // A zip file, or not there.
      continue;
    }
    for (const std::string& name : *names) {
      if (name.ends_with(".pth") || name.ends_with(".start")) paths.insert(folder + "/" + name);
    }
  }
  return paths;
}

// Bytecode that may be believed whatever its source says (PEP 552): magic, then flags, of which the
// lowest is "by hash". Whether it is, the flag "check" and `--check-hash-based-pycs` say.
bool IsItsOwnProof(const std::string& bytecode) {
  const cache::Descriptor file(open(bytecode.c_str(), O_RDONLY | O_CLOEXEC));
  uint32_t head[2] = {};
  const bool read = pread(file.get(), head, sizeof head, 0) == sizeof head;
  return read && (le32toh(head[1]) & 1) != 0;
}

// Without asking getenv(), which would count as a read.
std::string_view Variable(std::string_view name) {
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    if (text.starts_with(name) && text.substr(name.size()).starts_with('=')) {
      return text.substr(name.size() + 1);
    }
  }
  return "";
}

// What the C library reads for tzset(3), which CPython calls when `time` is imported: time/tzset.c,
// time/tzfile.c. A TZ that describes its rules names no file that there is.
std::string ZoneFile() {
  std::string_view zone = Variable("TZ");
  if (zone.starts_with(':')) zone.remove_prefix(1);
  if (zone.empty()) return "/etc/localtime";
  if (zone.starts_with('/')) return std::string(zone);
  const std::string_view folder = Variable("TZDIR");
  return std::string(folder.empty() ? "/usr/share/zoneinfo" : folder) + "/" + std::string(zone);
}

// Everything the image was made of must have been as it is now before anything was read; file
// systems stamp with a coarse clock (cache/stamp.h).
bool IsSettled(const image::FileState& state, int64_t started_ns) {
  return cache::IsProvable(std::max(state.ctime_ns, state.mtime_ns), started_ns);
}

bool IsFolder(const std::string& path) {
  struct stat st;
  return stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
}

// sys.path may name folders relative to the working directory, or have done so.
bool LooksForModulesHere() {
  PyObject* path = PySys_GetObject("path");
  PyObject* importers = PySys_GetObject("path_importer_cache");
  const auto relative = [](PyObject* name) {
    std::string text;
    return FileSystemBytes(name, &text) && !text.starts_with('/');
  };
  for (Py_ssize_t i = 0; path != nullptr && PyList_Check(path) && i < PyList_GET_SIZE(path); ++i) {
    if (relative(PyList_GET_ITEM(path, i))) return true;
  }
  PyObject *name, *finder;
  for (Py_ssize_t i = 0; importers != nullptr && PyDict_Check(importers) &&
                         PyDict_Next(importers, &i, &name, &finder);) {
    if (relative(name)) return true;
  }
  return false;
}

}  // namespace

std::set<std::string> ModuleFiles() {
  std::set<std::string> paths;
  PyRef list = PyRef::Steal(PyDict_Values(PyImport_GetModuleDict()));
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
  return paths;
}

std::string TooYoung(const Handoff& handoff, const ReadRecord& read,
                     const std::set<std::string>& modules) {
  const auto young = [&](const image::FileState& state) {
    return !IsSettled(state, handoff.image.started_ns);
  };
  const auto words = [](const std::string& path) { return path + std::string(image::kTooYoung); };
  for (const auto& [path, first] : read.paths) {
    // Of what has changed or gone since, KeyMaker says that it did.
    for (const bool link : {false, true}) {
      const std::optional<image::FileState>& asked = link ? first.link : first.target;
      if (asked && young(*asked) && image::AskedOf(path, link) == *asked) return words(path);
    }
  }
  for (const std::string& path : modules) {
    if (young(image::AskedOf(path, /*link=*/false))) return words(path);
  }
  return "";
}

KeyMaker::KeyMaker(const Handoff& handoff, ArchiveSession* session, const ReadRecord& read,
                   const image::VariableReads& variables, const std::set<std::string>& modules)
    : handoff_(handoff),
      read_(read),
      variables_(variables),
      here_(read.folder == "/" ? "/" : read.folder + "/"),
      asked_(read.asked),
      folders_(SearchedFolders(session)),
      files_(FilesIn(folders_)) {
  files_.insert(modules.begin(), modules.end());
  if (LooksForModulesHere()) asked_.insert(kWorkingDirectory);
  for (const std::string& path : session->proved()) files_.insert(path);
  for (const std::string& path : read.bytecode) {
    if (IsItsOwnProof(path)) files_.insert(path);
  }
  files_.insert(handoff.LibraryFile(image::kRestorer));
  AddFilesIn(handoff.image.hooks);
  AddFilesIn(handoff.image.hooks + "/hooks");
  const std::string bin = handoff.python.substr(0, handoff.python.rfind('/'));
  files_.insert(ZoneFile());
  files_.insert(
      {handoff.python, bin + "/pyvenv.cfg", bin.substr(0, bin.rfind('/')) + "/pyvenv.cfg"});
}

void KeyMaker::Renewed(const std::vector<std::string>& files) {
  for (const std::string& file : files) ++renewed_[std::string(image::kKernelFile) + file];
}

std::string KeyMaker::Make(const std::vector<std::string>& mapped, image::Key* key) {
  files_.insert(mapped.begin(), mapped.end());
  Proofs proofs;
  for (const auto& [path, first] : read_.paths) {
    if (std::string why = AddAnswers(path, first, &proofs); !why.empty()) return why;
  }
  for (const std::string& path : files_) {
    if (std::string why = AddAnswer(path, /*link=*/false, nullptr, &proofs); !why.empty()) {
      return why;
    }
  }
  for (const auto& [path, first] : read_.paths) {
    if (!first.names) continue;
    if (std::string why = AddNames(path, *first.names, key); !why.empty()) return why;
  }
  DropFoldersToHere(&proofs);
  DropFoldersLookedInto(&proofs);
  key->files = image::PackProofs(proofs);
  for (const std::string& path : folders_) {
    if (std::string why = NewIn(path); !why.empty()) return why + std::string(image::kTooYoung);
    key->folders.push_back(image::ProveFolder(path, RealtimeNs(), /*all=*/false));
  }
  AddFacts(key);
  return handoff_.image.shared ? WhyNotShared(proofs) : "";
}

// What others cannot read they shall not find in memory.
std::string KeyMaker::WhyNotShared(const Proofs& proofs) const {
  if (asked_.count(image::kUser) != 0) {
    return "it is for its maker alone: preloading has asked who runs it, or where that user may "
           "write; set USER and HOME as they will be set when it is used";
  }
  for (const image::FileProof& proof : proofs) {
    struct stat st;
    const bool there = image::HasContent(proof.state) && stat(proof.path.c_str(), &st) == 0;
    if (there && (st.st_mode & S_IROTH) == 0) return proof.path + " is not for everybody to read";
  }
  return "";
}

void KeyMaker::AddFacts(image::Key* key) const {
  const image::ImageOrder& order = handoff_.image;
  key->shared = order.shared;
  key->reads = variables_;
  std::string& all = key->reads.all;
  if (RunsLibrariesOfTheUser()) all = "LD_PRELOAD or LD_AUDIT is set";
  if (all.empty()) {
    EnvironUse use = UseOfEnviron(order.hooks + "/environ_libraries.txt");
    if (!use.unknown.empty()) all = use.unknown + " uses C's environ";
    std::move(use.prefixes.begin(), use.prefixes.end(), std::back_inserter(key->reads.prefixes));
  }
  key->asked.assign(asked_.begin(), asked_.end());
  key->facts = order.facts;
  for (image::Fact& fact : image::Asked(order.askable, key->asked)) {
    key->facts.push_back(std::move(fact));
  }
  for (const auto& [name, first] : read_.kernel_files) {
    const auto renewed = renewed_.find(name);
    if (renewed != renewed_.end() && renewed->second >= read_.kernel_calls.at(name)) continue;
    key->asked.push_back(name);
    key->facts.push_back({name, first});
  }
  for (image::Fact& fact : image::Counting(order.environment, key->reads)) {
    key->facts.push_back(std::move(fact));
  }
}

void KeyMaker::AddFilesIn(const std::string& folder) {
  auto names = cache::PosixFileEnv().ListFolder(folder);
  for (const std::string& name : names ? *names : std::vector<std::string>()) {
    if (!IsFolder(folder + "/" + name)) files_.insert(folder + "/" + name);
  }
}

std::string KeyMaker::AddAnswer(const std::string& path, bool link, const image::FileState* first,
                                Proofs* proofs) {
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
  proofs->push_back({here && absent ? path.substr(here_.size()) : path, now, link});
  return "";
}

std::string KeyMaker::AddAnswers(const std::string& path, const ReadRecord::Path& first,
                                 Proofs* proofs) {
  const bool same = first.link && first.target && *first.link == *first.target;  // No link.
  std::string why;
  if (first.link) why = AddAnswer(path, /*link=*/true, &*first.link, proofs);
  if (first.target && !same && why.empty()) {
    why = AddAnswer(path, /*link=*/false, &*first.target, proofs);
  }
  if (first.link || first.target) files_.erase(path);
  return why;
}

std::string KeyMaker::AddNames(const std::string& path, const image::FolderNames& first,
                               image::Key* key) {
  if (std::string why = NewIn(path); !why.empty()) return why + std::string(image::kTooYoung);
  // Programs write results where they run.
  const bool all = !IsProgramFolder(path);
  key->folders.push_back(image::ProveFolder(path, RealtimeNs(), all));
  if (key->folders.back().names == (all ? first.all : first.importable)) return "";
  return "the names in " + path + " changed while preloading";
}

bool KeyMaker::IsSoughtHere(const std::string& path) const {
  return read_.relative.count(path) != 0 ||
         (read_.asked_folder && path.size() > here_.size() && path.starts_with(here_));
}

// os.path.realpath of such a path asks about all folders on the way from the root, which are
// there for every start. Those that lead to something else that is proved do count.
void KeyMaker::DropFoldersToHere(Proofs* proofs) const {
  if (!read_.asked_folder || asked_.count(kWorkingDirectory) != 0) return;
  const auto leads_here = [&](const std::string& path) {
    return path == "/" || here_.starts_with(path + "/");
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

// Their own proofs say the same (image/folder_names.h).
void KeyMaker::DropFoldersLookedInto(Proofs* proofs) const {
  std::erase_if(*proofs, [&](const image::FileProof& proof) {
    // One that is proved to be no link, either, says more than the listing does.
    const bool folder = proof.state.rights != cache::Rights() && !proof.link;
    const auto asked = read_.paths.find(proof.path);
    const bool listed = asked != read_.paths.end() && asked->second.names.has_value();
    return folder && (listed || folders_.count(proof.path) != 0);
  });
}

bool KeyMaker::IsProgramFolder(const std::string& path) const {
  struct stat here, listed;
  if (stat(path.c_str(), &listed) != 0) return false;
  const std::string& folder = image::ValueOf(handoff_.image.command, image::kProgramFolder);
  return stat(folder.c_str(), &here) == 0 && here.st_dev == listed.st_dev &&
         here.st_ino == listed.st_ino;
}

// Whose constructors run before anything of ours (ld.so(8)).
bool KeyMaker::RunsLibrariesOfTheUser() const {
  const image::Facts& set = handoff_.image.environment;
  return std::any_of(set.begin(), set.end(), [](const image::Fact& fact) {
    const std::string_view name = std::string_view(fact.name).substr(image::kVariable.size());
    return name == "LD_PRELOAD" || name == "LD_AUDIT";
  });
}

// Made by this start, if there was none, before anything was looked for (ArchiveSession::Open).
bool KeyMaker::LeadsToCache(const std::string& path) const {
  struct stat st, above;
  if (stat(path.c_str(), &st) != 0 || !S_ISDIR(st.st_mode)) return false;
  std::string at = handoff_.cache_folder;
  for (; at.size() > 1; at = cache::FolderOf(at)) {
    const bool known = stat(at.c_str(), &above) == 0;
    if (known && above.st_dev == st.st_dev && above.st_ino == st.st_ino) return true;
  }
  return false;
}

std::string KeyMaker::NewIn(const std::string& folder) const {
  constexpr int64_t kTick = 20'000'000;  // Of the clock that stamps files.
  const int64_t start = handoff_.image.started_ns - kTick;
  if (image::StateOf(folder).ctime_ns < start) return "";
  auto names = cache::PosixFileEnv().ListFolder(folder);
  if (!names) return "";
  for (const std::string& name : *names) {
    const std::string path = folder + "/" + name;
    struct statx st;
    if (!image::IsImportable(name) || LeadsToCache(path)) continue;
    if (statx(AT_FDCWD, path.c_str(), 0, STATX_BTIME, &st) != 0) continue;
    const int64_t born = st.stx_btime.tv_sec * 1'000'000'000 + st.stx_btime.tv_nsec;
    if (born >= start) return path;
  }
  return "";
}

}  // namespace pylaunch::engine
