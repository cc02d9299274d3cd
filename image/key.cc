#include "image/key.h"

#include <dirent.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <iterator>
#include <memory>

#include "cache/stamp.h"
#include "cache/wire.h"
#include "image/format.h"
#include "image/kernel_files.h"
#include "image/packed_proofs.h"
#define XXH_INLINE_ALL
#include "xxhash.h"

namespace pylaunch::image {
namespace {

constexpr std::string_view kKeyMagic = "PYLKEY\r\n";
constexpr uint64_t kSeed = 0x70796c61756e6368;

std::string Hex(uint64_t number) {
  std::array<char, 17> text;
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(number));
  return text.data();
}

uint64_t HashOf(const Facts& facts) {
  std::string text;
  for (const Fact& fact : facts) text += fact.name + '\0' + fact.value + '\0';
  return XXH3_64bits(text.data(), text.size());
}

// .pth files are read by `site` when it meets the folder.
// importlib.metadata finds distributions by the names of their folders.
bool Matters(std::string_view name) {
  return IsImportable(name) || name.ends_with(".pth") || name.ends_with(".dist-info") ||
         name.ends_with(".egg-info") || name.ends_with(".egg-link");
}

void Write(cache::WireWriter* out, const KeyHead& head) {
  out->List(head.facts, [out](const Fact& fact) {
    out->String(fact.name);
    out->String(fact.value);
  });
  out->List(head.reads.names, [out](const std::string& name) { out->String(name); });
  out->List(head.reads.prefixes, [out](const std::string& prefix) { out->String(prefix); });
  out->String(head.reads.all);
  out->List(head.asked, [out](const std::string& name) { out->String(name); });
  out->Number(head.image);
  out->Number(head.table);
  out->Number(head.table_size);
  out->Number(head.content);
  out->List(head.late, [out](const std::string& words) { out->String(words); });
}

void Read(cache::WireReader* in, KeyHead* head) {
  in->List(&head->facts, [in](Fact* fact) {
    in->String(&fact->name);
    in->String(&fact->value);
  });
  in->List(&head->reads.names, [in](std::string* name) { in->String(name); });
  in->List(&head->reads.prefixes, [in](std::string* prefix) { in->String(prefix); });
  in->String(&head->reads.all);
  in->List(&head->asked, [in](std::string* name) { in->String(name); });
  in->Number(&head->image);
  in->Number(&head->table);
  in->Number(&head->table_size);
  in->Number(&head->content);
  in->List(&head->late, [in](std::string* words) { in->String(words); });
}

// Magic | format u32 | size of the head u64 | hash of the head u64 | hash of the body u64 | head |
// body
struct Prefix {
  uint64_t head_size = 0, head_hash = 0, body_hash = 0;
};

std::optional<Prefix> ParsePrefix(std::string_view bytes) {
  cache::WireReader in(bytes.substr(0, Key::kHeadPrefix));
  if (in.Raw(kKeyMagic.size()) != kKeyMagic) return std::nullopt;
  uint32_t format;
  Prefix prefix;
  in.Number(&format);
  in.Number(&prefix.head_size);
  in.Number(&prefix.head_hash);
  in.Number(&prefix.body_hash);
  if (!in.AtEnd() || format != kFormat) return std::nullopt;
  return prefix;
}

uint64_t HashOf(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

FileState FolderState(const std::string& path) {
  struct stat st;
  if (stat(path.c_str(), &st) != 0) return FileState();
  FileState state = StateOf(st);
  state.rights = cache::RightsOf(st);
  return state;
}

bool Holds(const FolderProof& proof) {
  const FileState now = FolderState(proof.path);
  if (now == proof.state) return true;
  if (now.rights != proof.state.rights) return false;
  const FolderNames names = NamesIn(proof.path);
  return (proof.all ? names.all : names.importable) == proof.names;
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

Facts Asked(const Facts& askable, const std::vector<std::string>& names) {
  Facts asked;
  std::copy_if(askable.begin(), askable.end(), std::back_inserter(asked), [&](const Fact& fact) {
    return std::find(names.begin(), names.end(), fact.name) != names.end();
  });
  for (const std::string& name : names) {
    if (!name.starts_with(kKernelFile)) continue;
    if (auto fact = KernelFileFact(std::string_view(name).substr(kKernelFile.size()))) {
      asked.push_back(std::move(*fact));
    }
  }
  return asked;
}

std::string Hashed(std::string_view value) {
  const XXH128_hash_t hash = XXH3_128bits_withSeed(value.data(), value.size(), kSeed);
  return Hex(hash.high64) + Hex(hash.low64);
}

FolderProof ProveFolder(const std::string& path, int64_t read_at_ns, bool all) {
  const FileState state = FolderState(path);
  const FolderNames names = NamesIn(path);
  FolderProof proof{path, state, all ? names.all : names.importable, all};
  const bool absent = proof.state == FileState();
  if (!absent && !cache::IsProvable(proof.state.ctime_ns, read_at_ns)) proof.state.ctime_ns = -1;
  return proof;
}

std::string Key::Serialize() const {
  cache::WireWriter head_out;
  Write(&head_out, static_cast<const KeyHead&>(*this));
  const std::string head = head_out.Take();
  cache::WireWriter out;
  out.List(folders, [&out](const FolderProof& proof) {
    out.String(proof.path);
    out.Number(proof.state);
    out.Number(proof.names);
    out.Number(proof.all);
  });
  out.Raw(files);
  const std::string body = out.Take();
  cache::WireWriter whole;
  whole.Raw(kKeyMagic);
  whole.Number(kFormat);
  whole.Number(uint64_t{head.size()});
  whole.Number(HashOf(head));
  whole.Number(HashOf(body));
  whole.Raw(head);
  whole.Raw(body);
  return whole.Take();
}

size_t Key::HeadSize(std::string_view bytes) {
  const std::optional<Prefix> prefix = ParsePrefix(bytes);
  return prefix ? kHeadPrefix + prefix->head_size : 0;
}

std::optional<KeyHead> Key::ParseHead(std::string_view bytes) {
  const std::optional<Prefix> prefix = ParsePrefix(bytes);
  if (!prefix || bytes.size() - kHeadPrefix < prefix->head_size) return std::nullopt;
  const std::string_view head = bytes.substr(kHeadPrefix, prefix->head_size);
  if (HashOf(head) != prefix->head_hash) return std::nullopt;
  cache::WireReader in(head);
  KeyHead parsed;
  Read(&in, &parsed);
  if (!in.AtEnd()) return std::nullopt;
  return parsed;
}

std::optional<Key> Key::Parse(std::string bytes) {
  std::optional<KeyHead> head = ParseHead(bytes);
  if (!head) return std::nullopt;
  const std::string_view body = std::string_view(bytes).substr(HeadSize(bytes));
  if (HashOf(body) != ParsePrefix(bytes)->body_hash) return std::nullopt;
  cache::WireReader in(body);
  Key key;
  static_cast<KeyHead&>(key) = std::move(*head);
  in.List(&key.folders, [&in](FolderProof* proof) {
    in.String(&proof->path);
    in.Number(&proof->state);
    in.Number(&proof->names);
    in.Number(&proof->all);
  });
  if (!in.ok()) return std::nullopt;
  bytes.erase(0, bytes.size() - in.rest().size());
  key.files = std::move(bytes);
  return key;
}

std::string Difference(const Facts& made, const Facts& now) {
  for (const Fact& fact : now) {
    const auto old = std::find_if(made.begin(), made.end(),
                                  [&](const Fact& other) { return other.name == fact.name; });
    if (old == made.end()) return fact.name + " is new";
    if (old->value != fact.value) return fact.name + " changed";
  }
  for (const Fact& fact : made) {
    const bool gone = std::none_of(now.begin(), now.end(),
                                   [&](const Fact& other) { return other.name == fact.name; });
    if (gone) return fact.name + " is gone";
  }
  return "";
}

std::string FirstChange(const Key& key) {
  // Thousands of stat(2) calls are most of a start's time.
  std::string folder;
  const std::string file = FirstChanged(key.files, [&] {
    const auto changed = std::find_if_not(key.folders.begin(), key.folders.end(), Holds);
    if (changed == key.folders.end()) return;
    const bool same = FolderState(changed->path).rights == changed->state.rights;
    folder = (same ? "the names in " : "") + changed->path;
  });
  if (!file.empty()) return file + " changed";
  return folder.empty() ? "" : folder + " changed";
}

uint64_t TableHash(std::string_view bytes) { return HashOf(bytes); }

std::string ImageOf(std::string_view key) {
  return std::string(key.substr(0, key.size() - kKeySuffix.size())) + ".img";
}

namespace {

std::string StemFor(const std::string& folder, const Facts& command, const Facts& facts) {
  return folder + "/" + Hex(HashOf(command)) + "-" + Hex(HashOf(facts));
}

}  // namespace

ImageFiles FilesFor(const std::string& folder, const Facts& command, const Facts& all) {
  ImageFiles files;
  files.family = Hex(HashOf(command));
  files.key = StemFor(folder, command, all) + std::string(kKeySuffix);
  files.image = ImageOf(files.key);
  return files;
}

std::string NoteFor(const std::string& folder, const Facts& command, const Facts& facts) {
  return StemFor(folder, command, facts) + ".note";
}

std::string LateFor(const std::string& folder, const Facts& command, const Facts& facts) {
  return StemFor(folder, command, facts) + ".late";
}

}  // namespace pylaunch::image
