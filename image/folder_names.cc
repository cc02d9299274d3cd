#include "image/folder_names.h"

#include <dirent.h>

#include <algorithm>
#include <cctype>
#include <memory>

#include "cache/stamp.h"
#define XXH_INLINE_ALL
#include "xxhash.h"

namespace pylaunch::image {
namespace {

// .pth files are read by `site` when it meets the folder, and .start files from CPython 3.15 on
// (PEP 829). importlib.metadata finds distributions by the names of their folders.
bool Matters(std::string_view name) {
  return IsImportable(name) || name.ends_with(".pth") || name.ends_with(".start") ||
         name.ends_with(".dist-info") || name.ends_with(".egg-info") || name.ends_with(".egg-link");
}

FileState FolderState(const std::string& path) {
  struct stat st;
  if (stat(path.c_str(), &st) != 0) return FileState();
  FileState state = StateOf(st);
  state.rights = cache::RightsOf(st);
  return state;
}

}  // namespace

// What is before the first dot is the name that an import asks for. As an import by importlib or
// runpy can ask for any, every file with a module's suffix counts. What has none may be a package,
// but also any folder of results: there the name must be one that an import statement can have.
bool IsImportable(std::string_view name) {
  if (name == "__pycache__") return false;
  const std::string_view stem = name.substr(0, name.find('.'));
  const std::string_view rest = name.substr(stem.size());
  if (stem.empty()) return false;
  if (!rest.empty()) return rest == ".py" || rest == ".pyc" || rest.ends_with(".so");
  return std::isdigit(static_cast<unsigned char>(stem[0])) == 0 &&
         std::all_of(stem.begin(), stem.end(),
                     [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c >= 0x80; });
}

// Independent of the order that readdir gives.
FolderNames NamesIn(const std::string& path) {
  FolderNames names;
  std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(path.c_str()), closedir);
  if (!dir) return names;
  names = {1, 1};
  while (const dirent* entry = readdir(dir.get())) {
    const std::string_view name = entry->d_name;
    if (name == "__pycache__") continue;  // Comes with the first import, and proves nothing.
    const uint64_t hash = XXH3_64bits_withSeed(name.data(), name.size(), entry->d_type);
    names.all += hash;
    // A file without a suffix is no module; a folder may be a package.
    const bool folder = entry->d_type != DT_REG;
    if (Matters(name) && (folder || name.find('.') != name.npos)) names.importable += hash;
  }
  return names;
}

FolderProof ProveFolder(const std::string& path, int64_t read_at_ns, bool all) {
  const FileState state = FolderState(path);
  const FolderNames names = NamesIn(path);
  FolderProof proof{path, state, all ? names.all : names.importable, all};
  const bool absent = proof.state == FileState();
  if (!absent && !cache::IsProvable(proof.state.ctime_ns, read_at_ns)) proof.state.ctime_ns = -1;
  return proof;
}

std::string ChangeOf(const FolderProof& proof) {
  const FileState now = FolderState(proof.path);
  if (now == proof.state) return "";
  if (now.rights != proof.state.rights) return proof.path;
  const FolderNames names = NamesIn(proof.path);
  return (proof.all ? names.all : names.importable) == proof.names ? ""
                                                                   : "the names in " + proof.path;
}

}  // namespace pylaunch::image
