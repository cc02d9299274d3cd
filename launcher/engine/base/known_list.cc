#include "launcher/engine/base/known_list.h"

#include <link.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <optional>
#include <utility>

#include "cache/file_env.h"
#include "cache/stat_proof.h"
#include "launcher/engine/base/build_id.h"
#include "launcher/engine/base/loaded_object.h"
#include "launcher/engine/base/split.h"

namespace pylaunch::engine {
namespace {

constexpr size_t kMaxSize = size_t{1} << 20;
constexpr std::string_view kBuildId = "build-id", kCPython = "cpython", kOtherwise = "otherwise",
                           kReads = "reads:", kTypes = "types:";

std::string_view LibraryName(std::string_view path) {
  const std::string_view file = cache::BaseOf(path);
  return file.substr(0, file.find_first_of("-."));
}

// The path up to where LibraryName() ends, a package's for its __init__.
std::string_view Stem(std::string_view path) {
  path.remove_suffix(cache::BaseOf(path).size() - LibraryName(path).size());
  constexpr std::string_view kInit = "/__init__";
  if (path.ends_with(kInit)) path.remove_suffix(kInit.size());
  return path;
}

// From where `path` leads to `stem`; nothing: it does not.
std::optional<std::string> Root(std::string_view stem, std::string_view path) {
  if (stem == path) return ".";
  if (!stem.ends_with(path)) return std::nullopt;
  stem.remove_suffix(path.size());
  if (!stem.ends_with('/')) return std::nullopt;
  return std::string(stem.substr(0, stem.size() - 1));
}

std::string BuildIdOfLoaded(std::string_view path) {
  std::string digits;
  AnyLoadedObject([&](const dl_phdr_info& object) {
    if (object.dlpi_name != path) return false;
    const std::string_view id = BuildId(object);
    digits.resize(2 * id.size());
    PutHexadecimal(id, digits.data());
    return true;
  });
  return digits;
}

// As https://packaging.python.org/en/latest/specifications/name-normalization has it.
std::string Normalized(std::string_view name) {
  std::string normalized;
  for (const char c : name) {
    const bool separator = c == '-' || c == '_' || c == '.';
    if (separator && normalized.ends_with('-')) continue;
    normalized += separator ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return normalized;
}

// The versions of distributions that are installed in a folder. Of two of one name none is known.
using Versions = std::map<std::string, std::string, std::less<>>;

void AddDistribution(std::string_view name, Versions* versions) {
  const bool egg = name.ends_with(".egg-info");
  if (!egg && !name.ends_with(".dist-info")) return;
  name.remove_suffix(std::string_view(".dist-info").size() - (egg ? 1 : 0));
  // NAME-VERSION, of an egg-info NAME-VERSION-pyX.Y too; neither has a '-' in it.
  const std::vector<std::string_view> parts = Split(name, "-");
  if (parts.empty()) return;
  const std::string version(parts.size() > 1 ? parts[1] : "");
  const auto [place, is_new] = versions->try_emplace(Normalized(parts[0]), version);
  if (!is_new) place->second.clear();
}

const Versions& VersionsIn(const std::string& folder) {
  struct Known {
    int64_t changed = -1;  // When a name in it last did.
    uint64_t inode = 0;
    Versions versions;
  };
  // Static: all lists ask about the same few folders. Never freed.
  static auto* folders = new std::map<std::string, Known>();
  Known& known = (*folders)[folder];
  const auto st = cache::PosixFileEnv().Stat(folder);
  const int64_t changed = st ? cache::NanosecondsOf(st->st_mtim) : -1;
  if (changed >= 0 && known.changed == changed && known.inode == st->st_ino) return known.versions;
  known = {changed, st ? uint64_t{st->st_ino} : 0, {}};
  const auto names = cache::PosixFileEnv().ListFolder(folder);
  if (names) {
    for (const std::string& name : *names) AddDistribution(name, &known.versions);
  }
  return known.versions;
}

// "3.11" of "/usr/lib/python3.11", which installs a file.
std::string CPythonOf(std::string_view root) {
  constexpr std::string_view kExtensions = "/lib-dynload", kPython = "python";
  if (root.ends_with(kExtensions)) root.remove_suffix(kExtensions.size());
  const std::string_view folder = cache::BaseOf(root);
  return std::string(folder.starts_with(kPython) ? folder.substr(kPython.size()) : "");
}

std::string Joined(const std::set<std::string, std::less<>>& words) {
  std::string joined;
  for (const std::string& word : words) joined.append(joined.empty() ? "" : ", ").append(word);
  return joined;
}

// The version of `what` that is here; empty: nothing tells.
std::string VersionHere(std::string_view what, const std::string& root, std::string_view file) {
  if (what == kBuildId) return BuildIdOfLoaded(file);
  if (what == kCPython) return CPythonOf(root);
  const Versions& versions = VersionsIn(root);
  const auto found = versions.find(what);
  return found == versions.end() ? "" : found->second;
}

}  // namespace

KnownList KnownList::Read(const std::string& path) {
  const auto text = cache::PosixFileEnv().ReadFile(path, kMaxSize);
  return {std::string(cache::BaseOf(path)), text ? std::string_view(*text) : std::string_view()};
}

KnownList::KnownList(std::string name, std::string_view text) : name_(std::move(name)) {
  for (std::string_view line : Split(text, "\n")) AddLine(line.substr(0, line.find('#')));
}

void KnownList::AddLine(std::string_view line) {
  const std::vector<std::string_view> fields = Split(line, " \t");
  if (fields.empty()) return;
  if (fields[0] == kOtherwise) {
    for (size_t i = 1; i < fields.size(); ++i) {
      otherwise_.append(i == 1 ? "" : " ").append(fields[i]);
    }
    return;
  }
  std::string_view key = fields[0];
  Entry entry{std::string(key), {}, {}, {}};
  if (key.find('/') != key.npos) {
    key = cache::BaseOf(key);
  } else {
    entry.path = key.substr(0, key.find(':'));
    std::replace(entry.path.begin(), entry.path.end(), '.', '/');
  }
  for (size_t i = 1; i < fields.size(); ++i) {
    if (fields[i].starts_with(kReads)) {
      for (std::string_view prefix : Split(fields[i].substr(kReads.size()), ",")) {
        entry.reads.emplace_back(prefix);
      }
      continue;
    }
    if (fields[i].starts_with(kTypes)) {
      for (std::string_view type : Split(fields[i].substr(kTypes.size()), ",")) {
        entry.types.emplace(type);
      }
      continue;
    }
    const size_t equals = fields[i].find("==");
    if (equals == std::string_view::npos) continue;  // Proves nothing.
    Proof proof{std::string(fields[i].substr(0, equals)), {}};
    for (std::string_view version : Split(fields[i].substr(equals + 2), ",")) {
      proof.versions.emplace(version);
    }
    entry.proofs.push_back(std::move(proof));
  }
  entries_.emplace(key, std::move(entry));
}

const KnownList::Entry* KnownList::Judge(std::string_view key, std::string_view file) {
  std::string other_version, other_build;
  const auto [begin, end] = entries_.equal_range(key);
  for (auto at = begin; at != end; ++at) {
    const std::optional<std::string> root = Root(Stem(file), at->second.path);
    if (!root) continue;
    for (const Proof& proof : at->second.proofs) {
      const std::string here = VersionHere(proof.what, *root, file);
      if (proof.versions.count(here) != 0) return &at->second;
      if (here.empty()) continue;
      if (proof.what == kBuildId) {
        other_build = " knows other builds of ";
        other_build.append(key).append(" than ").append(file).append(", build-id ").append(here);
      } else {
        other_version = " knows " + proof.what + " " + Joined(proof.versions) + ", here is " + here;
      }
    }
  }
  const std::string& other = other_version.empty() ? other_build : other_version;
  if (!other.empty()) to_read_.insert(name_ + other);
  return nullptr;
}

bool KnownList::HasLibrary(std::string_view path) {
  const std::string_view name = LibraryName(path);
  if (!Names(name)) return false;
  auto place = verdicts_.find(path);
  if (place == verdicts_.end()) place = verdicts_.emplace(path, Judge(name, path)).first;
  return place->second != nullptr;
}

const std::vector<std::string>& KnownList::ReadBy(std::string_view path) const {
  return verdicts_.find(path)->second->reads;
}

bool KnownList::HasTypeOf(std::string_view path, std::string_view type) const {
  const auto& types = verdicts_.find(path)->second->types;
  return types.empty() || types.count(type) != 0;
}

bool KnownList::HasProof(std::string_view name, std::string_view what,
                         std::string_view version) const {
  const auto [begin, end] = entries_.equal_range(name);
  return std::any_of(begin, end, [&](const auto& entry) {
    return std::any_of(entry.second.proofs.begin(), entry.second.proofs.end(), [&](const Proof& p) {
      return p.what == what && p.versions.count(version) != 0;
    });
  });
}

bool KnownList::HasModule(std::string_view name, std::string_view file) {
  return !file.empty() && Judge(name, file) != nullptr;
}

void KnownList::ProveLoaded() {
  for (const link_map* library = _r_debug.r_map; library != nullptr; library = library->l_next) {
    HasLibrary(library->l_name);
  }
}

std::vector<std::string> KnownList::ToReadAgain() const {
  std::vector<std::string> sentences;
  for (const std::string& what : to_read_) {
    sentences.push_back(what + ": it has to be read again" +
                        (otherwise_.empty() ? "" : "; until then " + otherwise_));
  }
  return sentences;
}

}  // namespace pylaunch::engine
