#include "cache/memo.h"

#include <algorithm>
#include <utility>

#include "cache/wire.h"

namespace pylaunch::cache {
namespace {

// Adds the proof of `path`, and of what is under it. False: see ProveTree.
bool Prove(FileEnv& env, const std::string& path, std::string_view skip, size_t limit,
           std::vector<Dependency>* proofs) {
  if (proofs->size() >= limit) return false;
  const int64_t read_at_ns = env.NowNs();
  const auto st = env.Stat(path);
  if (!st) return false;
  const SourceStamp stamp = SourceStampOf(*st);
  if (!IsProvable(std::max(stamp.mtime_ns, stamp.ctime_ns), read_at_ns)) return false;
  proofs->push_back({path, stamp});
  if (!S_ISDIR(st->st_mode)) return true;
  auto names = env.ListFolder(path);
  if (!names) return false;
  std::sort(names->begin(), names->end());
  return std::all_of(names->begin(), names->end(), [&](const std::string& name) {
    return name == skip || Prove(env, path + "/" + name, skip, limit, proofs);
  });
}

}  // namespace

std::string Memo::Serialize() const {
  WireWriter out;
  out.List(files, [&out](const Dependency& file) {
    out.String(file.path);
    out.Number(file.stamp);
  });
  out.String(result);
  return out.Take();
}

std::optional<Memo> Memo::Parse(std::string_view bytes) {
  WireReader in(bytes);
  Memo memo;
  in.List(&memo.files, [&in](Dependency* file) {
    in.String(&file->path);
    in.Number(&file->stamp);
  });
  in.String(&memo.result);
  if (!in.AtEnd()) return std::nullopt;
  return memo;
}

std::optional<std::vector<Dependency>> ProveTree(FileEnv& env, const std::string& root,
                                                 std::string_view skip, size_t limit) {
  std::vector<Dependency> proofs;
  if (!Prove(env, root, skip, limit, &proofs)) return std::nullopt;
  return proofs;
}

bool StillHolds(FileEnv& env, const std::vector<Dependency>& files) {
  return std::all_of(files.begin(), files.end(), [&env](const Dependency& file) {
    const auto st = env.Stat(file.path);
    return st && SourceStampOf(*st) == file.stamp;
  });
}

}  // namespace pylaunch::cache
