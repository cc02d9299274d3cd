#include "cache/prune.h"

#include <stdlib.h>
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
constexpr std::string_view kNote = ".note";
constexpr int64_t kHourNs = 3600LL * 1'000'000'000;

using Holdings = std::vector<Holding>;

// As the kernel names mapped files.
std::string RealPath(const std::string& path) {
  const std::unique_ptr<char, void (*)(void*)> real(realpath(path.c_str(), nullptr), free);
  return real == nullptr ? path : real.get();
}

// The archives in `folder`, each with its additions.
Holdings ArchivesOf(FileEnv& env, const std::string& folder,
                    const std::vector<std::string>& names) {
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

class Pruner {
 public:
  Pruner(FileEnv& env, const PruneRequest& request)
      : env_(env), request_(request), others_(request.others) {}

  Result<PruneOutcome> Run() {
    const auto names = env_.ListFolder(request_.folder);
    const bool there = names || names.error().code != ErrorCode::kNotFound;
    if (!names && there) return tl::unexpected(names.error());
    if (names) RemoveTemporary(*names);
    if (names) archives_ = ArchivesOf(env_, request_.folder, *names);
    RemoveLeftovers();
    for (const Holdings* list : {&archives_, &others_}) {
      for (const Holding& holding : *list) outcome_.bytes_before += holding.bytes;
    }
    outcome_.bytes_after = outcome_.bytes_before;
    for (const Holding& other : others_) pinned_ += other.pinned ? other.bytes : 0;
    if (TooMuch() || request_.all_dead) JudgeArchives();
    RemoveDead();
    RemoveTooMany();
    if (TooMuch()) RemoveOldest();
    return std::move(outcome_);
  }

 private:
  bool TooMuch() const {
    return request_.max_bytes != 0 && outcome_.bytes_after - pinned_ > request_.max_bytes;
  }

  void RemoveTemporary(const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      if (!IsTempName(name)) continue;
      const std::string path = request_.folder + "/" + name;
      const auto st = env_.Stat(path);
      const bool old = st && env_.NowNs() - NanosecondsOf(st->st_mtim) > kTempLifeNs;
      if (old && IsMine(*st) && env_.Unlink(path)) outcome_.leftovers.push_back(path);
    }
  }

  void RemoveLeftovers() {
    std::erase_if(others_, [this](const Holding& other) {
      if (other.standing != Standing::kLeftover) return false;
      if (IsAsListed(other) && env_.Unlink(other.path)) outcome_.leftovers.push_back(other.path);
      return true;
    });
  }

  void JudgeArchives() {
    for (Holding& archive : archives_) {
      auto reader = ArchiveReader::OpenAny(env_, archive.path);
      if (!reader) continue;
      if (!GoneEnvironment(env_, **reader).empty()) archive.standing = Standing::kDead;
    }
  }

  void RemoveDead() {
    for (Holdings* list : {&archives_, &others_}) {
      for (Holding& holding : *list) {
        const bool go =
            holding.standing == Standing::kDead && (request_.all_dead || !IsArchive(holding));
        if (go) Remove(&holding);
      }
      std::erase_if(*list, [](const Holding& holding) { return holding.path.empty(); });
    }
  }

  void RemoveTooMany() {
    std::sort(others_.begin(), others_.end(), GoesBefore);
    const auto free = static_cast<size_t>(std::count_if(
        others_.begin(), others_.end(), [](const Holding& other) { return !other.pinned; }));
    size_t over =
        request_.max_others == 0 || free < request_.max_others ? 0 : free - request_.max_others;
    for (Holding& other : others_) {
      if (other.pinned || over == 0) continue;
      Remove(&other);
      --over;
    }
    std::erase_if(others_, [](const Holding& holding) { return holding.path.empty(); });
  }

  void RemoveOldest() {
    Holdings all = std::move(archives_);
    std::move(others_.begin(), others_.end(), std::back_inserter(all));
    std::sort(all.begin(), all.end(), GoesBefore);
    for (Holding& holding : all) {
      if (!TooMuch()) return;
      Remove(&holding);
    }
  }

  // Times of last use are noted once an hour, so that an archive which is in use all the time may
  // seem older than something that was made just now; and without an archive every start is slow.
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
    const bool gone = IsArchive(*holding) ? RemoveArchive(holding->path) : RemoveOther(*holding);
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

  // Since it was listed somebody may have used it, or put another in its place.
  bool IsAsListed(const Holding& other) {
    std::optional<struct stat> st;
    const auto look = [&](const std::string& path) {
      if (auto found = env_.Stat(path); found && !st) st = *found;
    };
    if (!other.companions.empty()) look(other.companions.front());
    look(other.path);
    return !st || NanosecondsOf(st->st_mtim) == other.last_use_ns;
  }

  bool RemoveOther(const Holding& other) {
    if (other.pinned || !IsAsListed(other)) return false;
    for (const std::string& path : other.companions) (void)env_.Unlink(path);
    return env_.Unlink(other.path).has_value() || !env_.Stat(other.path);
  }

  FileEnv& env_;
  const PruneRequest& request_;
  Holdings archives_, others_;
  std::vector<std::string> mapped_;
  bool mapped_known_ = false;
  uint64_t pinned_ = 0;  // Bytes.
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
  return IsTempNameFor(name, name.substr(0, std::min(name.rfind(".tmp"), name.size())));
}

bool IsMine(const struct stat& st) { return geteuid() == 0 || st.st_uid == geteuid(); }

Result<PruneOutcome> Prune(FileEnv& env, const PruneRequest& request) {
  return Pruner(env, request).Run();
}

}  // namespace pylaunch::cache
