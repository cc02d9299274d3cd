#include "cache/prune.h"

#include <stdlib.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <utility>

#include "cache/archive.h"
#include "cache/stamp.h"

namespace pylaunch::cache {
namespace {

constexpr std::string_view kSuffix = ".pla";
constexpr std::string_view kDelta = ".delta.pla";

// As the kernel names mapped files.
std::string RealPath(const std::string& path) {
  const std::unique_ptr<char, void (*)(void*)> real(realpath(path.c_str(), nullptr), free);
  return real == nullptr ? path : real.get();
}

// The archives in `folder`, each with its additions, by base path.
Result<std::map<std::string, PruneOutcome::Archive>> List(FileEnv& env, const std::string& folder) {
  const auto names = env.ListFolder(folder);
  if (!names && names.error().code != ErrorCode::kNotFound) return tl::unexpected(names.error());
  std::map<std::string, PruneOutcome::Archive> archives;
  for (std::string name : names ? *names : std::vector<std::string>()) {
    if (!name.ends_with(kSuffix)) continue;
    const auto st = env.Stat(folder + "/" + name);
    if (!st) continue;
    if (name.ends_with(kDelta)) {
      name.replace(name.size() - kDelta.size(), kDelta.size(), kSuffix);
    }
    PruneOutcome::Archive& archive = archives[folder + "/" + name];
    archive.path = folder + "/" + name;
    archive.bytes += static_cast<uint64_t>(st->st_size);
    archive.last_use_ns = std::max(archive.last_use_ns, LastUseNs(*st));
  }
  return archives;
}

bool Contains(const std::vector<std::string>& list, const std::string& path) {
  return std::find(list.begin(), list.end(), path) != list.end();
}

// The lock goes last and is taken first: a writer at work keeps the archive, and one that waits
// meets a new lock file (FileEnv::Lock sees to that).
bool Remove(FileEnv& env, const std::string& path) {
  const auto lock = env.Lock(path + ".lock", std::chrono::milliseconds(0));
  if (!lock) return false;
  (void)env.Unlink(DeltaPath(path));
  (void)env.Unlink(path + ".note");
  const bool gone = env.Unlink(path).has_value() || !env.Stat(path);
  (void)env.Unlink(path + ".lock");
  return gone;
}

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

Result<PruneOutcome> Prune(FileEnv& env, const std::string& folder, uint64_t max_bytes,
                           const std::string& keep) {
  auto archives = List(env, folder);
  if (!archives) return tl::unexpected(archives.error());
  PruneOutcome outcome;
  std::vector<PruneOutcome::Archive> oldest_first;
  for (auto& [path, archive] : *archives) {
    outcome.bytes_before += archive.bytes;
    oldest_first.push_back(std::move(archive));
  }
  outcome.bytes_after = outcome.bytes_before;
  if (max_bytes == 0 || outcome.bytes_before <= max_bytes) return outcome;
  std::sort(oldest_first.begin(), oldest_first.end(),
            [](const auto& a, const auto& b) { return a.last_use_ns < b.last_use_ns; });
  const std::vector<std::string> mapped = MappedArchives(env, folder);
  for (PruneOutcome::Archive& archive : oldest_first) {
    if (outcome.bytes_after <= max_bytes) break;
    if (archive.path == keep) continue;
    if (Contains(mapped, archive.path) || Contains(mapped, DeltaPath(archive.path)) ||
        !Remove(env, archive.path)) {
      outcome.in_use.push_back(std::move(archive));
      continue;
    }
    outcome.bytes_after -= archive.bytes;
    outcome.removed.push_back(std::move(archive));
  }
  return outcome;
}

}  // namespace pylaunch::cache
