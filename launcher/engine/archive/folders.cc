#include "launcher/engine/archive/folders.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "launcher/engine/base/clock.h"

namespace pylaunch::engine {

bool Folder::Contains(std::string_view name) const {
  if (from_archive_) return archived_.Contains(name);
  return std::binary_search(listed_.begin(), listed_.end(), name);
}

bool Folder::ContainsStem(std::string_view stem) const {
  if (Contains(stem)) return true;
  const std::string start = std::string(stem) + ".";
  if (from_archive_) {
    const uint32_t i = archived_.LowerBound(start);
    return i < archived_.size() && archived_[i].starts_with(start);
  }
  auto name = std::lower_bound(listed_.begin(), listed_.end(), start);
  return name != listed_.end() && name->starts_with(start);
}

void Folders::Init(std::vector<std::string> suffixes, const cache::Archive* archive, bool unasked) {
  suffixes_ = std::move(suffixes);
  archive_ = archive;
  unasked_ = unasked && archive != nullptr;
}

bool Folders::HoldsUnasked(const std::string& path) const {
  return unasked_ && archive_->FindFolder(path).has_value();
}

const Folder* Folders::Last(const std::string& path) {
  if (auto known = folders_.find(path); known != folders_.end()) {
    return known->second.known_ ? &known->second : nullptr;
  }
  if (archive_ == nullptr) return nullptr;
  std::optional<cache::FolderEntry> entry = archive_->FindFolder(path);
  if (!entry) return nullptr;
  unproved_ = Folder();
  unproved_.archived_ = entry->names;
  unproved_.from_archive_ = true;
  return &unproved_;
}

const Folder* Folders::Get(const std::string& path, const struct stat* just_stated) {
  Folder& folder = folders_[path];
  if (unasked_ && folder.from_archive_) return &folder;
  if (unasked_ && !folder.known_) {
    if (std::optional<cache::FolderEntry> entry = archive_->FindFolder(path)) {
      folder.archived_ = entry->names;
      folder.from_archive_ = folder.known_ = true;
      return &folder;
    }
  }
  struct stat st;
  int64_t now = RealtimeNs();
  if (just_stated != nullptr) {
    st = *just_stated;
  } else if (stat(path.c_str(), &st) != 0) {
    st.st_mode = 0;
  }
  if (!S_ISDIR(st.st_mode)) {
    folder = Folder();
    return &folder;
  }
  cache::FolderStamp stamp = cache::FolderStampOf(st);
  if (folder.known_ && folder.stamp_ == stamp) return &folder;
  folder = Folder();
  folder.stamp_ = stamp;
  folder.read_at_ns_ = now;
  if (archive_ != nullptr) {
    std::optional<cache::FolderEntry> entry = archive_->FindFolder(path);
    if (entry && entry->stamp == stamp) {
      folder.archived_ = entry->names;
      folder.from_archive_ = folder.known_ = true;
      return &folder;
    }
  }
  if (!List(path, &folder)) return nullptr;
  folder.known_ = true;
  return &folder;
}

bool Folders::List(const std::string& path, Folder* folder) const {
  std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(path.c_str()), closedir);
  if (!dir) return errno == EACCES || errno == ENOENT || errno == ENOTDIR;
  errno = 0;
  while (const dirent* entry = readdir(dir.get())) {
    std::string_view name = entry->d_name;
    if (IsImportable(name)) folder->listed_.emplace_back(name);
    errno = 0;
  }
  if (errno != 0) return false;
  std::sort(folder->listed_.begin(), folder->listed_.end());
  return true;
}

bool Folders::IsImportable(std::string_view name) const {
  if (name.find('.') == std::string_view::npos) return name != "__pycache__";
  return std::any_of(suffixes_.begin(), suffixes_.end(),
                     [&](const std::string& suffix) { return name.ends_with(suffix); });
}

void Folders::Invalidate() {
  folders_.clear();
  archive_ = nullptr;
  unasked_ = false;
}

std::vector<std::string> Folders::Paths() const {
  std::vector<std::string> paths;
  for (const auto& [path, folder] : folders_) paths.push_back(path);
  return paths;
}

std::vector<cache::FolderRecord> Folders::TakeNew() {
  std::vector<cache::FolderRecord> records;
  for (auto& [path, folder] : folders_) {
    if (!folder.known_ || folder.from_archive_ ||
        !cache::IsProvable(folder.stamp_.mtime_ns, folder.read_at_ns_))
      continue;
    records.push_back({path, folder.stamp_, folder.read_at_ns_, folder.listed_});
    folder.read_at_ns_ = 0;  // Not provable any more: told once.
  }
  return records;
}

}  // namespace pylaunch::engine
