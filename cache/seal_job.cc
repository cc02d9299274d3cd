#include <utility>

#include "cache/seal.h"
#include "cache/wire.h"

// A serialized job: "PLSJ", u32 version, then fields as they stand in the structs (cache/wire.h).
// It lives for seconds, between two programs of one installation, so another version is just
// refused.

namespace pylaunch::cache {
namespace {

constexpr std::string_view kJobMagic = "PLSJ";
constexpr uint32_t kJobVersion = 3;

}  // namespace

std::string SealJob::Serialize() const {
  WireWriter out;
  out.Raw(kJobMagic);
  out.Number(kJobVersion);
  out.String(archive_path);
  out.String(key.python);
  out.String(key.environment);
  out.Number(key.magic);
  out.Number<int32_t>(key.optimize);
  out.Number<uint8_t>(discard_existing);
  out.Number(max_bytes);
  out.Number<uint64_t>(modules.size());
  for (const ModuleRecord& module : modules) {
    out.String(module.path);
    out.Number(module.stamp);
    out.Number(module.read_at_ns);
    out.String(module.pyc_path);
    out.String(module.frame);
    out.Number(module.raw_size);
    out.Number<uint8_t>(module.compiled);
  }
  out.Number<uint64_t>(folders.size());
  for (const FolderRecord& folder : folders) {
    out.String(folder.path);
    out.Number(folder.stamp);
    out.Number(folder.read_at_ns);
    out.Number<uint64_t>(folder.names.size());
    for (const std::string& name : folder.names) out.String(name);
  }
  out.List(others, [&out](const Holding& other) {
    out.String(other.path);
    out.Number(other.bytes);
    out.Number(other.last_use_ns);
    out.Number(other.standing);
    out.List(other.companions, [&out](const std::string& path) { out.String(path); });
    out.Number<uint8_t>(other.pinned);
  });
  return out.Take();
}

Result<SealJob> SealJob::Parse(std::string_view bytes) {
  WireReader in(bytes);
  uint32_t version;
  const bool magic = in.Raw(kJobMagic.size()) == kJobMagic;
  in.Number(&version);
  if (!magic || version != kJobVersion) {
    return MakeError(ErrorCode::kCorrupt, "no seal job of this version");
  }
  SealJob job;
  int32_t optimize;
  uint8_t discard;
  in.String(&job.archive_path);
  in.String(&job.key.python);
  in.String(&job.key.environment);
  in.Number(&job.key.magic);
  in.Number(&optimize);
  in.Number(&discard);
  in.Number(&job.max_bytes);
  job.key.optimize = optimize;
  job.discard_existing = discard != 0;
  in.List(&job.modules, [&in](ModuleRecord* module) {
    in.String(&module->path);
    in.Number(&module->stamp);
    in.Number(&module->read_at_ns);
    in.String(&module->pyc_path);
    in.String(&module->frame);
    in.Number(&module->raw_size);
    uint8_t compiled;
    in.Number(&compiled);
    module->compiled = compiled != 0;
  });
  in.List(&job.folders, [&in](FolderRecord* folder) {
    in.String(&folder->path);
    in.Number(&folder->stamp);
    in.Number(&folder->read_at_ns);
    in.List(&folder->names, [&in](std::string* name) { in.String(name); });
  });
  in.List(&job.others, [&in](Holding* other) {
    in.String(&other->path);
    in.Number(&other->bytes);
    in.Number(&other->last_use_ns);
    in.Number(&other->standing);
    in.List(&other->companions, [&in](std::string* path) { in.String(path); });
    uint8_t pinned;
    in.Number(&pinned);
    other->pinned = pinned != 0;
  });
  if (!in.AtEnd()) return MakeError(ErrorCode::kCorrupt, "truncated or overlong seal job");
  return job;
}

}  // namespace pylaunch::cache
