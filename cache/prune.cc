#include "cache/prune.h"

#include <linux/magic.h>
#include <stdlib.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <tuple>
#include <utility>

#include "cache/archive.h"
#include "cache/check.h"
#include "cache/stamp.h"

namespace pylaunch::cache {
namespace {

constexpr std::string_view kSuffix = ".pla";
constexpr std::string_view kDelta = ".delta.pla";
constexpr std::string_view kImage = ".img";
constexpr std::string_view kKey = ".key";
constexpr std::string_view kNote = ".note";
constexpr std::string_view kLate = ".late";
constexpr int64_t kHourNs = 3600LL * 1'000'000'000;
constexpr int64_t kWeekNs = 7 * 24 * kHourNs;
constexpr int64_t kMonthNs = 30 * 24 * kHourNs;
constexpr uint64_t kStatBlock = 512;  // stat(2), whatever the file system's own is.

using Holding = PruneOutcome::Holding;
using Holdings = std::vector<Holding>;

// As the kernel names mapped files.
std::string RealPath(const std::string& path) {
  const std::unique_ptr<char, void (*)(void*)> real(realpath(path.c_str(), nullptr), free);
  return real == nullptr ? path : real.get();
}

// Not in linux/magic.h: cifs (fs/smb/client/cifsfs.h), Lustre, GPFS, Ceph (fs/ceph/super.h).
bool IsOnNetwork(const std::string& folder) {
  struct statfs fs;
  if (statfs(folder.c_str(), &fs) != 0) return false;
  constexpr uint32_t kNetworks[] = {
      NFS_SUPER_MAGIC, SMB_SUPER_MAGIC,  SMB2_SUPER_MAGIC, CIFS_SUPER_MAGIC, AFS_FS_MAGIC,
      V9FS_MAGIC,      FUSE_SUPER_MAGIC, 0x0bd00bd0,       0x47504653,       CEPH_SUPER_MAGIC};
  return std::find(std::begin(kNetworks), std::end(kNetworks), static_cast<uint32_t>(fs.f_type)) !=
         std::end(kNetworks);
}

bool IsMine(const struct stat& st) { return geteuid() == 0 || st.st_uid == geteuid(); }

// Names in `folder`; none if it does not exist.
Result<std::vector<std::string>> Names(FileEnv& env, const std::string& folder) {
  auto names = env.ListFolder(folder);
  if (!names && names.error().code == ErrorCode::kNotFound) return std::vector<std::string>();
  return names;
}

// The archives in `folder`, each with its additions.
Holdings Archives(FileEnv& env, const std::string& folder, const std::vector<std::string>& names) {
  std::map<std::string, Holding> archives;
  for (std::string name : names) {
    if (!name.ends_with(kSuffix)) continue;
    const auto st = env.Stat(folder + "/" + name);
    if (!st || !IsMine(*st)) continue;
    if (name.ends_with(kDelta)) {
      name.replace(name.size() - kDelta.size(), kDelta.size(), kSuffix);
    }
    Holding& archive = archives[folder + "/" + name];
    archive.path = folder + "/" + name;
    archive.bytes += static_cast<uint64_t>(st->st_size);
    archive.last_use_ns = std::max(archive.last_use_ns, LastUseNs(*st));
  }
  Holdings list;
  for (auto& [path, archive] : archives) list.push_back(std::move(archive));
  return list;
}

bool IsArchive(const Holding& holding) { return holding.path.ends_with(kSuffix); }

std::string Beside(const std::string& image, std::string_view suffix) {
  return image.substr(0, image.size() - kImage.size()).append(suffix);
}

class Pruner {
 public:
  Pruner(FileEnv& env, const PruneRequest& request)
      : env_(env),
        request_(request),
        images_folder_(request.folder + "/" + kImagesFolder),
        on_network_(request.on_network.value_or(IsOnNetwork(request.folder))) {}

  Result<PruneOutcome> Run() {
    const auto names = Names(env_, request_.folder);
    if (!names) return tl::unexpected(names.error());
    const auto images = Names(env_, images_folder_);
    // Who has just written something bounds what can be seen.
    if (!images && request_.all_dead) return tl::unexpected(images.error());
    RemoveLeftovers(request_.folder, *names);
    archives_ = Archives(env_, request_.folder, *names);
    if (images) {
      RemoveLeftovers(images_folder_, *images);
      ListImages(*images);
    }
    for (const Holdings* list : {&archives_, &images_}) {
      for (const Holding& holding : *list) outcome_.bytes_before += holding.bytes;
    }
    outcome_.bytes_after = outcome_.bytes_before;
    if (TooMuch() || request_.all_dead) JudgeArchives();
    RemoveDead();
    RemoveTooMany();
    if (TooMuch()) RemoveOldest();
    return std::move(outcome_);
  }

 private:
  bool TooMuch() const {
    return request_.max_bytes != 0 && outcome_.bytes_after > request_.max_bytes;
  }

  bool OlderThan(const struct stat& st, int64_t life_ns) const {
    return env_.NowNs() - NanosecondsOf(st.st_mtim) > life_ns;
  }

  // A key or an image without the other, or a note, is what a writer leaves that is at work, or
  // has been killed.
  bool IsLeftover(const std::string& path, const struct stat& st) const {
    if (IsTempName(BaseOf(path))) return OlderThan(st, kTempLifeNs);
    if (FolderOf(path) != images_folder_) return false;
    const std::string stem = path.substr(0, path.rfind('.'));
    if (path.ends_with(kNote) || path.ends_with(kLate)) return OlderThan(st, kWeekNs);
    const bool half = (path.ends_with(kImage) && !env_.Stat(stem + std::string(kKey))) ||
                      (path.ends_with(kKey) && !env_.Stat(stem + std::string(kImage)));
    return half && OlderThan(st, kTempLifeNs);
  }

  void RemoveLeftovers(const std::string& folder, const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      const bool candidate = IsTempName(name) || name.ends_with(kImage) || name.ends_with(kKey) ||
                             name.ends_with(kNote) || name.ends_with(kLate);
      if (!candidate) continue;
      const std::string path = folder + "/" + name;
      const auto st = env_.Stat(path);
      if (!st || !IsMine(*st) || !IsLeftover(path, *st)) continue;
      if (env_.Unlink(path)) outcome_.leftovers.push_back(path);
    }
  }

  void ListImages(const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      if (!name.ends_with(kImage)) continue;
      Holding image;
      image.path = images_folder_ + "/" + name;
      const auto st = env_.Stat(image.path);
      const auto key = env_.Stat(Beside(image.path, kKey));
      if (!st || !IsMine(*st)) continue;
      image.bytes = static_cast<uint64_t>(st->st_blocks) * kStatBlock;
      if (key) image.bytes += static_cast<uint64_t>(key->st_blocks) * kStatBlock;
      image.last_use_ns = NanosecondsOf((key ? *key : *st).st_mtim);
      if (key && request_.judge) image.standing = request_.judge(image.path);
      images_.push_back(std::move(image));
    }
  }

  void JudgeArchives() {
    for (Holding& archive : archives_) {
      auto reader = ArchiveReader::OpenAny(env_, archive.path);
      if (!reader) continue;
      if (!GoneEnvironment(env_, **reader).empty()) archive.standing = Standing::kDead;
    }
  }

  void RemoveDead() {
    for (Holdings* list : {&archives_, &images_}) {
      for (Holding& holding : *list) {
        const bool go =
            holding.standing == Standing::kDead && (request_.all_dead || !IsArchive(holding));
        if (go) Remove(&holding);
      }
      std::erase_if(*list, [](const Holding& holding) { return holding.path.empty(); });
    }
  }

  void RemoveTooMany() {
    std::sort(images_.begin(), images_.end(), GoesBefore);
    for (size_t i = 0; request_.max_images != 0 && i + request_.max_images < images_.size(); ++i) {
      Remove(&images_[i]);
    }
    std::erase_if(images_, [](const Holding& holding) { return holding.path.empty(); });
  }

  void RemoveOldest() {
    Holdings all = std::move(archives_);
    std::move(images_.begin(), images_.end(), std::back_inserter(all));
    std::sort(all.begin(), all.end(), GoesBefore);
    for (Holding& holding : all) {
      if (!TooMuch()) return;
      Remove(&holding);
    }
  }

  // Times of last use are noted once an hour, so that an archive which is in use all the time may
  // seem older than an image that was made just now; and every image is a start's worth less.
  static bool GoesBefore(const Holding& a, const Holding& b) {
    const auto rank = [](const Holding& holding) {
      const int64_t handicap = IsArchive(holding) ? 0 : kHourNs;
      const int standing = holding.standing == Standing::kDead    ? 0
                           : holding.standing == Standing::kStale ? 1
                                                                  : 2;
      return std::make_tuple(standing, holding.last_use_ns - handicap, holding.path);
    };
    return rank(a) < rank(b);
  }

  // Takes `holding` over, whatever comes of it, unless it is none of this request's business.
  void Remove(Holding* holding) {
    if (holding->path == request_.keep) return;
    const bool gone = IsArchive(*holding) ? RemoveArchive(holding->path) : RemoveImage(*holding);
    if (gone) outcome_.bytes_after -= holding->bytes;
    (gone ? outcome_.removed : outcome_.in_use).push_back(std::move(*holding));
    holding->path.clear();
  }

  // The lock goes last and is taken first: a writer at work keeps the archive, and one that waits
  // meets a new lock file (FileEnv::Lock sees to that).
  bool RemoveArchive(const std::string& path) {
    if (!mapped_known_) {
      mapped_ = MappedArchives(env_, request_.folder);
      mapped_known_ = true;
    }
    const auto is_mapped = [this](const std::string& file) {
      return std::find(mapped_.begin(), mapped_.end(), file) != mapped_.end();
    };
    if (is_mapped(path) || is_mapped(DeltaPath(path))) return false;
    const auto lock = env_.Lock(path + ".lock", std::chrono::milliseconds(0));
    if (!lock) return false;
    (void)env_.Unlink(DeltaPath(path));
    (void)env_.Unlink(path + std::string(kNote));
    const bool gone = env_.Unlink(path).has_value() || !env_.Stat(path);
    (void)env_.Unlink(path + ".lock");
    return gone;
  }

  // The key first: without it nobody starts from the image any more.
  bool RemoveImage(const Holding& image) {
    const bool ours = image.standing == Standing::kAlive || image.standing == Standing::kStale;
    if (on_network_ && !ours && env_.NowNs() - image.last_use_ns < kMonthNs) return false;
    (void)env_.Unlink(Beside(image.path, kKey));
    (void)env_.Unlink(Beside(image.path, kNote));
    return env_.Unlink(image.path).has_value() || !env_.Stat(image.path);
  }

  FileEnv& env_;
  const PruneRequest& request_;
  const std::string images_folder_;
  const bool on_network_;
  Holdings archives_, images_;
  std::vector<std::string> mapped_;
  bool mapped_known_ = false;
  PruneOutcome outcome_;
};

}  // namespace

std::vector<std::string> MappedArchives(FileEnv& env, const std::string& folder) {
  std::vector<std::string> mapped;
  const std::string real = RealPath(folder) + "/";
  const auto processes = env.ListFolder("/proc");
  for (const std::string& process : processes ? *processes : std::vector<std::string>()) {
    if (process.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream maps("/proc/" + process + "/maps");
    for (std::string line; std::getline(maps, line);) {
      const size_t at = line.find(real);
      if (at != std::string::npos) mapped.push_back(folder + "/" + line.substr(at + real.size()));
    }
  }
  return mapped;
}

bool IsTempName(std::string_view name) {
  constexpr std::string_view kTemp = ".tmp";
  const size_t base = std::min(name.rfind(kTemp), name.size());
  if (IsTempNameFor(name, name.substr(0, base))) return true;
  // An image's: NAME.img.PID.tmp.
  if (!name.ends_with(kTemp)) return false;
  name.remove_suffix(kTemp.size());
  const size_t dot = std::min(name.rfind('.'), name.size());
  return name.substr(0, dot).ends_with(kImage) && dot + 1 < name.size() &&
         name.find_first_not_of("0123456789", dot + 1) == name.npos;
}

Result<PruneOutcome> Prune(FileEnv& env, const PruneRequest& request) {
  return Pruner(env, request).Run();
}

}  // namespace pylaunch::cache
