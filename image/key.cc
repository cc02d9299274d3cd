#include "image/key.h"

#include <utility>

#include "cache/wire.h"
#include "image/format.h"
#include "image/packed_proofs.h"
#define XXH_INLINE_ALL
#include "xxhash.h"

namespace pylaunch::image {
namespace {

constexpr std::string_view kKeyMagic = "PYLKEY\r\n";

void Write(cache::WireWriter* out, const KeyHead& head) {
  out->List(head.facts, [out](const Fact& fact) {
    out->String(fact.name);
    out->String(fact.value);
  });
  out->List(head.reads.names, [out](const std::string& name) { out->String(name); });
  out->List(head.reads.prefixes, [out](const std::string& prefix) { out->String(prefix); });
  out->String(head.reads.all);
  out->List(head.asked, [out](const std::string& name) { out->String(name); });
  out->Number(head.image);
  out->String(head.inodes);
  out->Number(head.moved);
  out->Number(head.shared);
  out->Number(head.table);
  out->Number(head.table_size);
  out->Number(head.content);
  out->List(head.late, [out](const std::string& words) { out->String(words); });
  out->String(head.boot);
}

void Read(cache::WireReader* in, KeyHead* head) {
  in->List(&head->facts, [in](Fact* fact) {
    in->String(&fact->name);
    in->String(&fact->value);
  });
  in->List(&head->reads.names, [in](std::string* name) { in->String(name); });
  in->List(&head->reads.prefixes, [in](std::string* prefix) { in->String(prefix); });
  in->String(&head->reads.all);
  in->List(&head->asked, [in](std::string* name) { in->String(name); });
  in->Number(&head->image);
  in->String(&head->inodes);
  in->Number(&head->moved);
  in->Number(&head->shared);
  in->Number(&head->table);
  in->Number(&head->table_size);
  in->Number(&head->content);
  in->List(&head->late, [in](std::string* words) { in->String(words); });
  in->String(&head->boot);
}

// Magic | format u32 | size of the head u64 | hash of the head u64 | hash of the body u64 | head |
// body
struct Prefix {
  uint64_t head_size = 0, head_hash = 0, body_hash = 0;
};

std::optional<Prefix> ParsePrefix(std::string_view bytes) {
  cache::WireReader in(bytes.substr(0, Key::kHeadPrefix));
  if (in.Raw(kKeyMagic.size()) != kKeyMagic) return std::nullopt;
  uint32_t format;
  Prefix prefix;
  in.Number(&format);
  in.Number(&prefix.head_size);
  in.Number(&prefix.head_hash);
  in.Number(&prefix.body_hash);
  if (!in.AtEnd() || format != kFormat) return std::nullopt;
  return prefix;
}

uint64_t HashOf(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

}  // namespace

std::string Key::Serialize() const {
  cache::WireWriter head_out;
  Write(&head_out, static_cast<const KeyHead&>(*this));
  const std::string head = head_out.Take();
  cache::WireWriter out;
  out.List(folders, [&out](const FolderProof& proof) {
    out.String(proof.path);
    out.Number(proof.state);
    out.Number(proof.names);
    out.Number(proof.all);
  });
  out.Raw(files);
  const std::string body = out.Take();
  cache::WireWriter whole;
  whole.Raw(kKeyMagic);
  whole.Number(kFormat);
  whole.Number(uint64_t{head.size()});
  whole.Number(HashOf(head));
  whole.Number(HashOf(body));
  whole.Raw(head);
  whole.Raw(body);
  return whole.Take();
}

size_t Key::HeadSize(std::string_view bytes) {
  const std::optional<Prefix> prefix = ParsePrefix(bytes);
  return prefix ? kHeadPrefix + prefix->head_size : 0;
}

std::optional<KeyHead> Key::ParseHead(std::string_view bytes) {
  const std::optional<Prefix> prefix = ParsePrefix(bytes);
  if (!prefix || bytes.size() - kHeadPrefix < prefix->head_size) return std::nullopt;
  const std::string_view head = bytes.substr(kHeadPrefix, prefix->head_size);
  if (HashOf(head) != prefix->head_hash) return std::nullopt;
  cache::WireReader in(head);
  KeyHead parsed;
  Read(&in, &parsed);
  if (!in.AtEnd()) return std::nullopt;
  return parsed;
}

std::optional<Key> Key::Parse(std::string bytes) {
  std::optional<KeyHead> head = ParseHead(bytes);
  if (!head) return std::nullopt;
  const std::string_view body = std::string_view(bytes).substr(HeadSize(bytes));
  if (HashOf(body) != ParsePrefix(bytes)->body_hash) return std::nullopt;
  cache::WireReader in(body);
  Key key;
  static_cast<KeyHead&>(key) = std::move(*head);
  in.List(&key.folders, [&in](FolderProof* proof) {
    in.String(&proof->path);
    in.Number(&proof->state);
    in.Number(&proof->names);
    in.Number(&proof->all);
  });
  if (!in.ok()) return std::nullopt;
  bytes.erase(0, bytes.size() - in.rest().size());
  key.files = std::move(bytes);
  return key;
}

std::string FirstChange(const Key& key) {
  // Thousands of stat(2) calls are most of a start's time.
  const std::string changed = FirstChanged(key.files, key.folders.size(),
                                           [&](size_t i) { return ChangeOf(key.folders[i]); });
  return changed.empty() ? "" : changed + " changed";
}

uint64_t TableHash(std::string_view bytes) { return HashOf(bytes); }

}  // namespace pylaunch::image
