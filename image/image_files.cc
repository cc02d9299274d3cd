#include "image/image_files.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "cache/file_env.h"
#define XXH_INLINE_ALL
#include "xxhash.h"

namespace pylaunch::image {
namespace {

constexpr std::string_view kTempSuffix = ".tmp";
constexpr size_t kBootDigits = 8;

std::string NameFor(const Facts& facts) {
  std::string text;
  for (const Fact& fact : facts) text += fact.name + '\0' + fact.value + '\0';
  std::array<char, 17> name;
  std::snprintf(name.data(), name.size(), "%016llx",
                static_cast<unsigned long long>(XXH3_64bits(text.data(), text.size())));
  return name.data();
}

std::string PathFor(const std::string& folder, const Facts& command, const Facts& facts,
                    std::string_view suffix) {
  return (folder + "/" + NameFor(command) + "-" + NameFor(facts)).append(suffix);
}

std::string UnfinishedSuffix(const Facts& facts) {
  return ("-" + Hashed(ValueOf(facts, kBoot)).substr(0, kBootDigits)).append(kTempSuffix);
}

std::string Replace(std::string_view path, std::string_view old, std::string_view suffix) {
  return std::string(path.substr(0, path.size() - old.size())).append(suffix);
}

}  // namespace

std::string ImageOf(std::string_view key) {
  if (key.ends_with(kDigestsSuffix)) return Replace(key, kDigestsSuffix, kImageSuffix);
  if (!IsAdopted(key)) return Replace(key, kKeySuffix, kImageSuffix);
  return std::string(key.substr(0, key.rfind(kAdoptedMark))).append(kImageSuffix);
}
std::string KeyOf(std::string_view image) { return Replace(image, kImageSuffix, kKeySuffix); }

std::string DigestsOf(std::string_view image) {
  return Replace(image, kImageSuffix, kDigestsSuffix);
}
std::string AdoptedOf(std::string_view image, std::string_view host) {
  return Replace(image, kImageSuffix, kAdoptedMark).append(host);
}
std::string NotAdoptedOf(std::string_view image, std::string_view host) {
  return Replace(image, kImageSuffix, ".").append(host).append(kNoteSuffix);
}
bool IsAdopted(std::string_view key) {
  const size_t mark = key.rfind(kAdoptedMark);
  return mark != key.npos && key.find_first_of("./", mark + 1) == key.npos;
}

std::string FamilyOf(std::string_view image) {
  const std::string_view name = cache::BaseOf(image);
  return std::string(name.substr(0, name.find('-')));
}

ImageFiles FilesFor(const std::string& folder, const Facts& command, const Facts& all) {
  return {.family = NameFor(command),
          .key = PathFor(folder, command, all, kKeySuffix),
          .image = PathFor(folder, command, all, kImageSuffix)};
}

std::string NoteFor(const std::string& folder, const Facts& command, const Facts& facts) {
  return PathFor(folder, command, facts, kNoteSuffix);
}

std::string LateFor(const std::string& folder, const Facts& command, const Facts& facts) {
  return PathFor(folder, command, facts, kLateSuffix);
}

std::string UnfinishedFor(const std::string& folder, const Facts& command, const Facts& facts) {
  return (PathFor(folder, command, facts, kImageSuffix) + "." + std::to_string(getpid()))
      .append(UnfinishedSuffix(facts));
}

bool IsUnfinished(std::string_view name) {
  if (!name.ends_with(kTempSuffix)) return false;
  name.remove_suffix(kTempSuffix.size());
  const size_t dash = name.rfind('-');
  const size_t dot = std::min(name.rfind('.'), name.size());
  if (dash == name.npos || dash < dot || name.size() != dash + 1 + kBootDigits) return false;
  return name.substr(0, dot).ends_with(kImageSuffix) && dot + 1 < dash &&
         name.find_first_not_of("0123456789", dot + 1) == dash &&
         name.find_first_not_of("0123456789abcdef", dash + 1) == name.npos;
}

bool IsUnfinishedOf(std::string_view name, const Facts& facts) {
  return IsUnfinished(name) && name.ends_with(UnfinishedSuffix(facts));
}

}  // namespace pylaunch::image
