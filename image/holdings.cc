#include "image/holdings.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string_view>
#include <utility>

#include "cache/stat_proof.h"
#include "image/image_files.h"

namespace pylaunch::image {
namespace {

using cache::Holding;
using cache::Standing;

constexpr int64_t kDayNs = 24LL * 3600 * 1'000'000'000;
constexpr int64_t kWeekNs = 7 * kDayNs;
constexpr int64_t kMonthNs = 30 * kDayNs;
constexpr uint64_t kStatBlock = 512;  // stat(2), whatever the file system's own is.

// Also those of a disk that several hosts have. Not in linux/magic.h: Ceph (fs/ceph/super.h), GFS2,
// OrangeFS (fs/orangefs/protocol.h); and Lustre, GPFS, BeeGFS and PanFS, as stat(1) knows them.
bool IsOnNetwork(const std::string& folder) {
  struct statfs fs;
  if (statfs(folder.c_str(), &fs) != 0) return false;
  constexpr uint32_t kNetworks[] = {
      NFS_SUPER_MAGIC, SMB_SUPER_MAGIC,  SMB2_SUPER_MAGIC,  CIFS_SUPER_MAGIC, AFS_FS_MAGIC,
      V9FS_MAGIC,      FUSE_SUPER_MAGIC, 0x0bd00bd0,        0x47504653,       CEPH_SUPER_MAGIC,
      AFS_SUPER_MAGIC, CODA_SUPER_MAGIC, OCFS2_SUPER_MAGIC, 0x01161970,       0x20030528,
      0x19830326,      0xaad7aaea};
  return std::find(std::begin(kNetworks), std::end(kNetworks), static_cast<uint32_t>(fs.f_type)) !=
         std::end(kNetworks);
}

std::string NoteBeside(const std::string& image) {
  return image.substr(0, image.size() - kImageSuffix.size()).append(kNoteSuffix);
}

uint64_t BytesOf(const struct stat& st) { return static_cast<uint64_t>(st.st_blocks) * kStatBlock; }

class Lister {
 public:
  // `names`: all that the folder has.
  Lister(cache::FileEnv& env, const HoldingsQuery& query, const std::vector<std::string>& names)
      : env_(env),
        query_(query),
        names_(names),
        on_network_(query.on_network.value_or(IsOnNetwork(query.cache_folder))) {}

  // Nothing: it is none of this user's, or a file that something else goes by.
  std::optional<Holding> Look(const std::string& path) const {
    const auto st = env_.Stat(path);
    if (!st || !cache::IsMine(*st)) return std::nullopt;
    if (IsLeftover(path, *st)) return LeftoverAt(path, *st);
    if (!path.ends_with(kImageSuffix)) return std::nullopt;
    return ImageAt(path, *st);
  }

 private:
  bool IsOlderThan(const struct stat& st, int64_t life_ns) const {
    return env_.NowNs() - cache::NanosecondsOf(st.st_mtim) > life_ns;
  }

  // A key or an image without the other, or a note, is what a writer leaves that is at work, or has
  // been killed.
  bool IsLeftover(const std::string& path, const struct stat& st) const {
    const std::string_view name = cache::BaseOf(path);
    if (cache::IsTempName(name) || IsUnfinished(name)) return IsOlderThan(st, cache::kTempLifeNs);
    if (path.ends_with(kNoteSuffix) || path.ends_with(kLateSuffix)) return IsOlderThan(st, kWeekNs);
    if (IsAdopted(name) && IsOlderThan(st, kMonthNs)) return true;
    const bool half = (path.ends_with(kImageSuffix) && !env_.Stat(KeyOf(path))) ||
                      (path.ends_with(kKeySuffix) && !env_.Stat(ImageOf(path))) ||
                      (path.ends_with(kDigestsSuffix) && !env_.Stat(ImageOf(path))) ||
                      (IsAdopted(name) && !env_.Stat(ImageOf(path)));
    return half && IsOlderThan(st, cache::kTempLifeNs);
  }

  static Holding LeftoverAt(const std::string& path, const struct stat& st) {
    return {.path = path,
            .bytes = BytesOf(st),
            .last_use_ns = cache::NanosecondsOf(st.st_mtim),
            .standing = Standing::kLeftover,
            .companions = {},
            .pinned = false};
  }

  Holding ImageAt(const std::string& path, const struct stat& st) const {
    Holding image;
    image.path = path;
    const std::string key_path = KeyOf(path);
    const auto key = env_.Stat(key_path);
    image.bytes = BytesOf(st) + (key ? BytesOf(*key) : 0);
    image.last_use_ns = cache::NanosecondsOf(key ? key->st_mtim : st.st_mtim);
    if (key && query_.judge) image.standing = query_.judge(path);
    // The keys first: without one nobody starts from the image any more.
    image.companions = {key_path, DigestsOf(path), NoteBeside(path)};
    // Of one that another host has adopted, or has made, a process there may be what runs now.
    bool shared = false;
    const std::string adopted = AdoptedOf(cache::BaseOf(path), "");
    for (const std::string& name : names_) {
      if (!name.starts_with(adopted)) continue;
      shared = true;
      image.companions.push_back(cache::FolderOf(path) + "/" + name);
    }
    const bool ours = image.standing == Standing::kAlive || image.standing == Standing::kStale;
    image.pinned = on_network_ && (shared || !ours) && env_.NowNs() - image.last_use_ns < kMonthNs;
    return image;
  }

  cache::FileEnv& env_;
  const HoldingsQuery& query_;
  const std::vector<std::string>& names_;
  const bool on_network_;
};

}  // namespace

cache::Result<std::vector<Holding>> HoldingsOf(cache::FileEnv& env, const HoldingsQuery& query) {
  const std::string folder = query.cache_folder + "/" + kImagesFolder;
  const auto names = env.ListFolder(folder);
  std::vector<Holding> holdings;
  if (!names && names.error().code == cache::ErrorCode::kNotFound) return holdings;
  if (!names) return tl::unexpected(names.error());
  const Lister lister(env, query, *names);
  for (const std::string& name : *names) {
    if (auto holding = lister.Look(folder + "/" + name)) holdings.push_back(std::move(*holding));
  }
  return holdings;
}

}  // namespace pylaunch::image
