#include "image/key_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "cache/file_env.h"
#include "image/own_file.h"

namespace pylaunch::image {

KeyFile::KeyFile(std::string path) : path_(std::move(path)), fd_(OpenOwn(path_, &st_)) {}

std::optional<KeyHead> KeyFile::Head() const {
  const size_t size = Key::HeadSize(Bytes(Key::kHeadPrefix));
  return size == 0 ? std::nullopt : Key::ParseHead(Bytes(size));
}

std::optional<Key> KeyFile::Whole() const { return Key::Parse(Bytes(SIZE_MAX)); }

std::string KeyFile::Fault() const {
  return !fd_.ok() ? path_ + ": another user could have written it" : path_ + " is damaged";
}

int64_t KeyFile::used_ns() const { return StateOf(st_).mtime_ns; }

void KeyFile::Renew(const FileState& image) const {
  std::optional<Key> key = Whole();
  if (!key) return;
  key->image = image;
  cache::FileEnv& env = cache::PosixFileEnv();
  const auto file = env.CreateTemp(path_);
  if (!file) return;
  const std::string temp = (*file)->path();
  const timespec times[] = {st_.st_atim, st_.st_mtim};
  struct stat now;
  const bool written = (*file)->Append(key->Serialize()) && (*file)->Sync() &&
                       chmod(temp.c_str(), st_.st_mode & 0777) == 0 &&
                       utimensat(AT_FDCWD, temp.c_str(), times, 0) == 0;
  // Another may have made another image meanwhile.
  const bool same = stat(path_.c_str(), &now) == 0 && now.st_ino == st_.st_ino;
  if (!written || !same || !env.Rename(temp, path_)) unlink(temp.c_str());
}

std::string KeyFile::Bytes(size_t most) const {
  if (!fd_.ok()) return "";
  std::string bytes(std::min(most, static_cast<size_t>(st_.st_size)), '\0');
  const ssize_t n = pread(fd_.get(), bytes.data(), bytes.size(), 0);
  bytes.resize(n > 0 ? static_cast<size_t>(n) : 0);
  return bytes;
}

cache::Result<std::vector<std::string>> KeysOf(const std::string& folder, const Facts& command,
                                               std::string_view host) {
  const std::string adopted = std::string(kAdoptedMark).append(host);
  const std::string family = FilesFor(folder, command, {}).family;
  const auto names = cache::PosixFileEnv().ListFolder(folder);
  if (!names && names.error().code != cache::ErrorCode::kNotFound) {
    return tl::unexpected(names.error());
  }
  std::vector<std::string> keys;
  for (const std::string& name : names ? *names : std::vector<std::string>()) {
    if (name.starts_with(family) && (name.ends_with(kKeySuffix) || name.ends_with(adopted))) {
      keys.push_back(folder + "/" + name);
    }
  }
  return keys;
}

Facts FactsNow(const ImageOrder& order, const KeyHead& head) {
  Facts facts = order.facts;
  for (Fact& fact : Counting(order.environment, head.reads)) {
    facts.push_back(std::move(fact));
  }
  for (Fact& fact : Asked(order.askable, head.asked)) {
    facts.push_back(std::move(fact));
  }
  return facts;
}

}  // namespace pylaunch::image
