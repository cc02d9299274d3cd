#include <cstring>
#include <utility>

#include "cache/format.h"
#include "cache/seal.h"

// A serialized job: "PLSJ", u32 version, then fields as they stand in the structs; integers
// little-endian, strings and lists after a u64 of their length. It lives for seconds, between two
// programs of one installation, so another version is just refused.

namespace pylaunch::cache {
namespace {

constexpr std::string_view kJobMagic = "PLSJ";
constexpr uint32_t kJobVersion = 1;

class Out {
 public:
  template <typename T>
  void Number(T value) {
    bytes_ += format::BytesOf(value);
  }
  void String(std::string_view text) {
    Number<uint64_t>(text.size());
    bytes_ += text;
  }
  void Raw(std::string_view text) { bytes_ += text; }
  std::string Take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

// Reads what Out wrote. After the first read beyond the end, ok() is false and all reads give
// nothing.
class In {
 public:
  explicit In(std::string_view bytes) : rest_(bytes) {}

  template <typename T>
  void Number(T* value) {
    const std::string_view bytes = Raw(sizeof(T));
    *value = ok_ ? format::Load<T>(bytes.data()) : T();
  }
  void String(std::string* text) {
    uint64_t size;
    Number(&size);
    *text = Raw(size);
  }
  // Calls `read` once for each element of a list.
  template <typename T, typename Read>
  void List(std::vector<T>* list, const Read& read) {
    uint64_t count;
    Number(&count);
    // Every element takes bytes, so that a wrong count ends with the bytes.
    for (uint64_t i = 0; i < count && ok_; ++i) read(&list->emplace_back());
  }
  std::string_view Raw(uint64_t size) {
    if (!ok_ || size > rest_.size()) {
      ok_ = false;
      return {};
    }
    const std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }
  bool ok() const { return ok_; }
  bool AtEnd() const { return ok_ && rest_.empty(); }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace

std::string SealJob::Serialize() const {
  Out out;
  out.Raw(kJobMagic);
  out.Number(kJobVersion);
  out.String(archive_path);
  out.String(key.python);
  out.String(key.environment);
  out.Number(key.magic);
  out.Number<int32_t>(key.optimize);
  out.Number<uint8_t>(discard_existing);
  out.Number<uint64_t>(modules.size());
  for (const ModuleRecord& module : modules) {
    out.String(module.path);
    out.Number(module.stamp.mtime_ns);
    out.Number(module.stamp.size);
    out.Number(module.stamp.ctime_ns);
    out.Number(module.stamp.inode);
    out.Number(module.read_at_ns);
    out.String(module.pyc_path);
    out.String(module.frame);
    out.Number(module.raw_size);
  }
  out.Number<uint64_t>(folders.size());
  for (const FolderRecord& folder : folders) {
    out.String(folder.path);
    out.Number(folder.stamp.mtime_ns);
    out.Number(folder.stamp.ctime_ns);
    out.Number(folder.stamp.inode);
    out.Number(folder.read_at_ns);
    out.Number<uint64_t>(folder.names.size());
    for (const std::string& name : folder.names) out.String(name);
  }
  return out.Take();
}

Result<SealJob> SealJob::Parse(std::string_view bytes) {
  In in(bytes);
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
  job.key.optimize = optimize;
  job.discard_existing = discard != 0;
  in.List(&job.modules, [&in](ModuleRecord* module) {
    in.String(&module->path);
    in.Number(&module->stamp.mtime_ns);
    in.Number(&module->stamp.size);
    in.Number(&module->stamp.ctime_ns);
    in.Number(&module->stamp.inode);
    in.Number(&module->read_at_ns);
    in.String(&module->pyc_path);
    in.String(&module->frame);
    in.Number(&module->raw_size);
  });
  in.List(&job.folders, [&in](FolderRecord* folder) {
    in.String(&folder->path);
    in.Number(&folder->stamp.mtime_ns);
    in.Number(&folder->stamp.ctime_ns);
    in.Number(&folder->stamp.inode);
    in.Number(&folder->read_at_ns);
    in.List(&folder->names, [&in](std::string* name) { in.String(name); });
  });
  if (!in.AtEnd()) return MakeError(ErrorCode::kCorrupt, "truncated or overlong seal job");
  return job;
}

}  // namespace pylaunch::cache
