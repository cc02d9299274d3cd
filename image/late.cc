#include "image/late.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "cache/wire.h"
#include "image/format.h"
#include "image/own_file.h"
#define XXH_INLINE_ALL
#include "xxhash.h"

namespace pylaunch::image {
namespace {

constexpr std::string_view kLateMagic = "PYLLATE\n";

// Empty: there is none, or it is not to be trusted.
std::string ReadOwn(const std::string& path) {
  struct stat st;
  const cache::Descriptor file = OpenOwn(path, &st);
  if (!file.ok()) return "";
  std::string bytes(static_cast<size_t>(st.st_size), '\0');
  const ssize_t n = read(file.get(), bytes.data(), bytes.size());
  bytes.resize(n > 0 ? static_cast<size_t>(n) : 0);
  return bytes;
}

bool HasChanged(const LateEntry& entry) {
  return std::any_of(entry.files.begin(), entry.files.end(),
                     [](const FileProof& proof) { return StateOf(proof.path) != proof.state; });
}

}  // namespace

std::string Serialize(const LateEntries& entries) {
  cache::WireWriter out;
  out.List(entries, [&out](const LateEntry& entry) {
    out.Number(entry.index);
    out.String(entry.left);
    out.List(entry.files, [&out](const FileProof& proof) {
      out.String(proof.path);
      out.Number(proof.state);
    });
  });
  const std::string body = out.Take();
  cache::WireWriter head;
  head.Raw(kLateMagic);
  head.Number(kFormat);
  head.Number(uint64_t{XXH3_64bits(body.data(), body.size())});
  head.Raw(body);
  return head.Take();
}

std::optional<LateEntries> ParseLate(std::string_view bytes) {
  cache::WireReader in(bytes);
  if (in.Raw(kLateMagic.size()) != kLateMagic) return std::nullopt;
  uint32_t format;
  uint64_t hash;
  in.Number(&format);
  in.Number(&hash);
  if (!in.ok() || format != kFormat) return std::nullopt;
  const std::string_view body = bytes.substr(kLateMagic.size() + sizeof format + sizeof hash);
  if (XXH3_64bits(body.data(), body.size()) != hash) return std::nullopt;
  LateEntries entries;
  in.List(&entries, [&in](LateEntry* entry) {
    in.Number(&entry->index);
    in.String(&entry->left);
    in.List(&entry->files, [&in](FileProof* proof) {
      in.String(&proof->path);
      in.Number(&proof->state);
    });
  });
  if (!in.AtEnd()) return std::nullopt;
  return entries;
}

LateEntries ReadLate(const std::string& path, size_t size) {
  LateEntries entries = ParseLate(ReadOwn(path)).value_or(LateEntries());
  std::erase_if(
      entries, [size](const LateEntry& entry) { return entry.index >= size || HasChanged(entry); });
  return entries;
}

LateEntries Merge(LateEntries known, LateEntries found) {
  std::move(found.begin(), found.end(), std::back_inserter(known));
  std::sort(known.begin(), known.end(),
            [](const LateEntry& a, const LateEntry& b) { return a.index < b.index; });
  return known;
}

bool IsLate(const LateEntries& entries, size_t index) {
  return std::any_of(entries.begin(), entries.end(),
                     [index](const LateEntry& entry) { return entry.index == index; });
}

}  // namespace pylaunch::image
