#include "image/collection.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <string_view>
#include <utility>

#include "cache/descriptor.h"
#include "cache/stamp.h"
#include "image/format.h"
#include "image/holdings.h"
#include "image/image_files.h"
#include "image/travel.h"
#define XXH_INLINE_ALL
#include "xxhash.h"

namespace pylaunch::image {
namespace {

using cache::FileEnv;
using cache::Standing;

constexpr size_t kMaxKey = size_t{256} << 20;
constexpr size_t kMaxNote = 4096;
constexpr int64_t kTouchAfterNs = 3600LL * 1'000'000'000;
constexpr uint64_t kStatBlock = 512;

bool IsZero(const char* page, size_t size) {
  return page[0] == '\0' && std::memcmp(page, page + 1, size - 1) == 0;
}

using PageVisitor = std::function<bool(std::string_view page, uint64_t at)>;

// ForEachPage of a part. REQUIRES: `begin` and `end` are multiples of kPage, or the file's end.
bool VisitPages(int fd, uint64_t begin, uint64_t end, const PageVisitor& visit) {
  constexpr uint64_t kChunk = uint64_t{1} << 20;
  const auto chunk = std::make_unique<char[]>(kChunk);
  for (uint64_t at = begin; at < end;) {
    const size_t want = std::min(kChunk, end - at);
    if (pread(fd, chunk.get(), want, static_cast<off_t>(at)) != static_cast<ssize_t>(want)) {
      return false;
    }
    for (size_t page = 0; page < want; page += kPage) {
      const size_t size = std::min<size_t>(kPage, want - page);
      const char* bytes = chunk.get() + page;
      if (!IsZero(bytes, size) && !visit({bytes, size}, at + page)) return false;
    }
    at += want;
  }
  return true;
}

constexpr char kElsewhere[] =
    "made on another host, in another boot or of other copies: the next start proves it by content";

bool IsFile(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

// Of this process, with the stamps of the engine and the restorer that an image of `made` wants.
Facts MachineFactsFor(const Facts& made) {
  Facts machine = MachineFacts();
  const std::string& engine = ValueOf(made, kEngine);
  const std::string restorer = cache::FolderOf(engine) + "/" + kRestorer;
  machine.push_back({kEngineFile, Text(StateOf(engine))});
  machine.push_back({kRestorerFile, Text(StateOf(restorer))});
  return machine;
}

bool IsOfThisHost(const Facts& made, const Facts& machine) {
  return std::all_of(made.begin(), made.end(), [&](const Fact& fact) {
    return !IsOfHost(fact.name) || fact.value == ValueOf(machine, fact.name);
  });
}

// Why nothing on this host can start from an image of these facts again; empty if something can.
std::string WhyDead(const Facts& facts, const Facts& machine) {
  for (const std::string& path : {ValueOf(facts, kPython), ValueOf(facts, kProgramFolder)}) {
    if (!path.empty() && !IsFile(path)) return path + " is gone";
  }
  const std::string& engine = ValueOf(facts, kEngine);
  const std::string restorer = cache::FolderOf(engine) + "/" + kRestorer;
  if (!IsFile(engine)) return engine + " is gone";
  for (const char* name : {kBoot, kKernel, kVdso, kProcessor}) {
    if (ValueOf(facts, name) != ValueOf(machine, name)) return std::string(name) + " changed";
  }
  if (ValueOf(facts, kEngineFile) != ValueOf(machine, kEngineFile)) return engine + " changed";
  return ValueOf(facts, kRestorerFile) == ValueOf(machine, kRestorerFile) ? ""
                                                                          : restorer + " changed";
}

// A container that sees no boot id does not know of whose that do (facts.cc, Boot).
bool IsOfAnotherBoot(const std::string& made, const std::string& now) {
  return made != now && made.starts_with(kBootTime) == now.starts_with(kBootTime);
}

// The facts that stand in both kinds, so that the command's own do not count.
Facts Common(const Facts& made, const Facts& now) {
  Facts common;
  for (const Fact& fact : made) {
    const bool known = std::any_of(now.begin(), now.end(),
                                   [&](const Fact& other) { return other.name == fact.name; });
    if (known || fact.name.starts_with(kVariable)) common.push_back(fact);
  }
  return common;
}

// True for FirstChange's words about a relative path, which hold for who starts in this folder, and
// where nothing has changed.
bool IsForOtherFolders(const std::string& change) {
  return !change.starts_with('/') && !change.starts_with("the names in /");
}

// What has had its mode changed since is proved by its content, which is not looked at here.
bool MayBeAsWritten(const ImageSummary& image) {
  const FileState now = StateOf(image.path);
  return now == image.key.image || DifferInCtimeAlone(now, image.key.image);
}

// The key that this host has of an image that was made elsewhere. False: there is none.
bool TakeAdopted(const Facts& machine, ImageSummary* image) {
  const std::string path = AdoptedOf(image->path, HostOf(machine));
  auto bytes = cache::PosixFileEnv().ReadFile(path, kMaxKey);
  auto key = bytes ? Key::Parse(std::move(*bytes)) : std::nullopt;
  if (key) image->key = std::move(*key);
  return key.has_value();
}

void JudgeSummary(char** environment, ImageSummary* image) {
  const Facts machine = MachineFactsFor(image->key.facts);
  // Thousands of files: they are asked about once for each key.
  bool here = IsOfThisHost(image->key.facts, machine);
  std::string change = here ? FirstChange(image->key) : "";
  if ((!here || !change.empty()) && TakeAdopted(machine, image)) {
    here = IsOfThisHost(image->key.facts, machine);
    change = here ? FirstChange(image->key) : "";
  }
  if (!here && IsFile(DigestsOf(image->path))) {
    image->difference = WhyNotHere(image->key, machine);
    if (image->difference.empty()) image->difference = kElsewhere;
    return;
  }
  image->difference = WhyDead(image->key.facts, machine);
  image->standing = Standing::kDead;
  if (!image->difference.empty()) return;
  if (!here) change = FirstChange(image->key);
  image->difference = MayBeAsWritten(*image) ? change : image->path + " changed";
  image->standing = IsForOtherFolders(image->difference) ? Standing::kAlive : Standing::kStale;
  if (!image->difference.empty() || environment == nullptr) return;
  Facts now = machine;
  for (Fact& fact : Counting(EnvironmentFacts(environment), image->key.reads)) {
    now.push_back(std::move(fact));
  }
  for (Fact& fact : Asked({}, image->key.asked)) now.push_back(std::move(fact));
  image->difference = Difference(Common(image->key.facts, now), now);
}

void ReadKey(FileEnv& env, ImageSummary* image) {
  const std::string path = KeyOf(image->path);
  auto bytes = env.ReadFile(path, kMaxKey);
  if (!bytes) {
    image->error = bytes.error();
    return;
  }
  auto key = Key::Parse(std::move(*bytes));
  if (!key) {
    image->error =
        cache::Error{cache::ErrorCode::kCorrupt, path + " is damaged, or of another version"};
    return;
  }
  image->key = std::move(*key);
}

ImageSummary Summarize(FileEnv& env, const std::string& path, const struct stat& st) {
  ImageSummary image;
  image.path = path;
  image.bytes = static_cast<uint64_t>(st.st_size);
  image.disk_bytes = static_cast<uint64_t>(st.st_blocks) * kStatBlock;
  image.created_ns = cache::NanosecondsOf(st.st_mtim);
  image.last_use_ns = image.created_ns;
  image.foreign = st.st_uid != geteuid() && geteuid() != 0;
  if (const auto key = env.Stat(KeyOf(path))) {
    image.disk_bytes += static_cast<uint64_t>(key->st_blocks) * kStatBlock;
    image.last_use_ns = cache::NanosecondsOf(key->st_mtim);
  }
  return image;
}

void Check(FileEnv& env, ImageSummary* image) {
  const auto wrong = [image](const std::string& what) { image->wrong.push_back(what); };
  for (const std::string& path : {image->path, KeyOf(image->path)}) {
    const auto st = env.Stat(path);
    if (st && (st->st_mode & 022) != 0) wrong(path + ": others may write it");
  }
  if (!MayBeAsWritten(*image)) {
    wrong("its inode, size or times are not those that it was written with");
  }
  const auto content = ContentHash(image->path);
  if (!content) {
    wrong(std::string("it cannot be read: ") + std::strerror(errno));
  } else if (*content != image->key.content) {
    wrong("its bytes are not those that were written");
  }
}

Leftover LeftoverOf(FileEnv& env, const std::string& path, const struct stat& st) {
  return {path, static_cast<uint64_t>(st.st_blocks) * kStatBlock,
          env.NowNs() - cache::NanosecondsOf(st.st_mtim), ""};
}

}  // namespace

const std::string& ImageSummary::Value(std::string_view fact) const {
  return ValueOf(key.facts, fact);
}

cache::Result<Collection> Collect(FileEnv& env, const std::string& folder, char** environment,
                                  bool check) {
  auto names = env.ListFolder(folder);
  if (!names && names.error().code != cache::ErrorCode::kNotFound) {
    return tl::unexpected(names.error());
  }
  if (!names) return Collection();
  std::sort(names->begin(), names->end());
  const auto has = [&](const std::string& name) {
    return std::binary_search(names->begin(), names->end(), name);
  };
  Collection collection;
  for (const std::string& name : *names) {
    const std::string path = folder + "/" + name;
    const auto st = env.Stat(path);
    if (!st) continue;
    if (cache::IsTempName(name) || IsUnfinished(name) ||
        (name.ends_with(kImageSuffix) && !has(KeyOf(name)))) {
      collection.temporary.push_back(LeftoverOf(env, path, *st));
    } else if (name.ends_with(kNoteSuffix)) {
      collection.notes.push_back(LeftoverOf(env, path, *st));
      const auto text = env.ReadFile(path, kMaxNote);
      collection.notes.back().why = text ? *text : text.error().message;
    } else if (name.ends_with(kImageSuffix)) {
      ImageSummary image = Summarize(env, path, *st);
      if (!image.foreign) ReadKey(env, &image);
      if (!image.foreign && !image.error) JudgeSummary(environment, &image);
      if (!image.foreign && !image.error && check) Check(env, &image);
      collection.images.push_back(std::move(image));
    }
  }
  return collection;
}

std::vector<Divergence> Divergences(const Collection& collection) {
  std::map<std::string, std::vector<const Facts*>> families;
  for (const ImageSummary& image : collection.images) {
    if (image.foreign || image.error) continue;
    families[FamilyOf(image.path)].push_back(&image.key.facts);
  }
  std::vector<Divergence> divergences;
  for (const auto& [family, images] : families) {
    std::map<std::string, std::map<std::string, size_t>> values;  // By fact: images by value.
    for (const Facts* facts : images) {
      for (const Fact& fact : *facts) ++values[fact.name][fact.value];
    }
    Divergence divergence{family, images.size(), {}};
    for (const auto& [fact, counts] : values) {
      size_t having = 0;
      for (const auto& [value, count] : counts) having += count;
      const size_t different = counts.size() + (having < images.size() ? 1 : 0);
      if (different > 1) divergence.items.push_back({fact, different});
    }
    std::stable_sort(divergence.items.begin(), divergence.items.end(),
                     [](const auto& a, const auto& b) { return a.values > b.values; });
    if (!divergence.items.empty()) divergences.push_back(std::move(divergence));
  }
  return divergences;
}

Standing Judge(const std::string& path, bool gone_is_dead) {
  ImageSummary image;
  image.path = path;
  ReadKey(cache::PosixFileEnv(), &image);
  if (image.error) return Standing::kUnknown;
  JudgeSummary(nullptr, &image);
  const bool other = IsOfAnotherBoot(image.Value(kBoot), ValueOf(MachineFacts(), kBoot));
  return image.standing == Standing::kDead && !other && !gone_is_dead ? Standing::kStale
                                                                      : image.standing;
}

cache::Result<cache::PruneOutcome> PruneCache(FileEnv& env, const std::string& cache_folder,
                                              uint64_t max_bytes, const std::string& keep,
                                              bool thoroughly) {
  HoldingsQuery query;
  query.cache_folder = cache_folder;
  query.judge = [thoroughly](const std::string& path) { return Judge(path, thoroughly); };
  auto images = HoldingsOf(env, query);
  // Who has just written something bounds what can be seen.
  if (!images && thoroughly) {
    const auto names = env.ListFolder(cache_folder);  // Its own fault is told before the images'.
    return tl::unexpected(names ? images.error() : names.error());
  }
  cache::PruneRequest request;
  request.folder = cache_folder;
  request.max_bytes = max_bytes;
  request.keep = keep;
  if (images) request.others = std::move(*images);
  request.max_others = kMaxImages;
  request.all_dead = thoroughly;
  return cache::Prune(env, request);
}

void NoteUse(const std::string& key) {
  const int64_t last_ns = StateOf(key).mtime_ns;
  const bool recent = cache::PosixFileEnv().NowNs() - last_ns < kTouchAfterNs;
  if (recent && last_ns != StateOf(ImageOf(key)).mtime_ns) return;
  (void)utimensat(AT_FDCWD, key.c_str(), nullptr, 0);
}

void NoteUnused(const std::string& key) {
  struct stat st;
  if (stat(ImageOf(key).c_str(), &st) != 0) return;
  const timespec times[] = {st.st_mtim, st.st_mtim};
  (void)utimensat(AT_FDCWD, key.c_str(), times, 0);
}

std::optional<uint64_t> ContentHash(const std::string& path) {
  const cache::Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  return file.ok() ? ContentHash(file.get()) : std::nullopt;
}

bool TableIsWhole(int fd, const KeyHead& key) {
  std::string table(key.table_size, '\0');
  return pread(fd, table.data(), table.size(), 0) == static_cast<ssize_t>(table.size()) &&
         TableHash(table) == key.table;
}

// The sum over all pages, in whatever order they lie and were written.
std::optional<uint64_t> ContentHash(int fd) {
  struct stat st;
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return std::nullopt;
  auto sum = static_cast<uint64_t>(st.st_size);
  const bool read = ForEachPage(fd, [&sum](std::string_view page, uint64_t at) {
    sum += XXH3_64bits_withSeed(page.data(), page.size(), at);
    return true;
  });
  return read ? std::optional(sum) : std::nullopt;
}

bool ForEachPage(int fd, const PageVisitor& visit) {
  struct stat st;
  if (fstat(fd, &st) != 0) return false;
  const auto size = static_cast<uint64_t>(st.st_size);
  for (uint64_t at = 0; at < size;) {
    const off_t data = lseek(fd, static_cast<off_t>(at), SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;  // Only a hole is left.
    const off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
    // A file system that knows of no holes may know neither.
    const uint64_t begin = hole < 0 ? at : static_cast<uint64_t>(data) / kPage * kPage;
    const uint64_t whole = hole < 0 ? size : static_cast<uint64_t>(hole) + kPage - 1;
    const uint64_t end = hole < 0 ? size : std::min(size, whole / kPage * kPage);
    if (!VisitPages(fd, begin, end, visit)) return false;
    at = end;
  }
  return true;
}

}  // namespace pylaunch::image
