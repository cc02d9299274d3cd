#include "cache/archive.h"

#include <utility>

namespace pylaunch::cache {
namespace {

constexpr std::string_view kSuffix = ".pla";

}  // namespace

std::string DeltaPath(const std::string& path) {
  const bool has = path.ends_with(kSuffix);
  return path.substr(0, path.size() - (has ? kSuffix.size() : 0)) + ".delta" + std::string(kSuffix);
}

Result<std::unique_ptr<Archive>> Archive::Open(FileEnv& env, const std::string& path,
                                               const BuildKey& key) {
  auto archive = std::make_unique<Archive>();
  auto base = ArchiveReader::Open(env, path, key);
  if (!base && base.error().code != ErrorCode::kNotFound) return tl::unexpected(base.error());
  auto delta = ArchiveReader::Open(env, DeltaPath(path), key);
  if (!delta && (!base || delta.error().code != ErrorCode::kNotFound)) {
    return tl::unexpected(delta.error());
  }
  if (base) archive->base_ = std::move(*base);
  if (delta) archive->delta_ = std::move(*delta);
  return archive;
}

std::optional<Archive::Module> Archive::FindModule(std::string_view path) const {
  for (const ArchiveReader* in : {delta_.get(), base_.get()}) {
    if (in == nullptr) continue;
    if (auto entry = in->FindModule(path)) return Module{*entry, in};
  }
  return {};
}

std::optional<FolderEntry> Archive::FindFolder(std::string_view path) const {
  for (const ArchiveReader* in : {delta_.get(), base_.get()}) {
    if (in == nullptr) continue;
    if (auto entry = in->FindFolder(path)) return entry;
  }
  return {};
}

bool Archive::damaged() const {
  return (base_ && base_->damaged()) || (delta_ && delta_->damaged());
}

uint32_t Archive::module_count() const {
  return (base_ ? base_->module_count() : 0) + (delta_ ? delta_->module_count() : 0);
}

uint32_t Archive::folder_count() const {
  return (base_ ? base_->folder_count() : 0) + (delta_ ? delta_->folder_count() : 0);
}

}  // namespace pylaunch::cache
