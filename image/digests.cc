#include "image/digests.h"

#include "cache/wire.h"
#include "image/content_proof.h"
#include "image/format.h"
#include "image/packed_proofs.h"
#define XXH_INLINE_ALL
#include "xxhash.h"

namespace pylaunch::image {
namespace {

constexpr std::string_view kDigestsMagic = "PYLDIG\r\n";

uint64_t HashOf(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

}  // namespace

uint64_t DigestsId(std::string_view packed_proofs) { return HashOf(packed_proofs); }

// Magic | format u32 | hash of the rest u64 | proofs u64 | a list of content proofs
std::string Digests::Serialize() const {
  cache::WireWriter out;
  out.Number(proofs);
  out.List(files, [&out](const ContentProof& proof) { out.Number(proof); });
  const std::string rest = out.Take();
  cache::WireWriter whole;
  whole.Raw(kDigestsMagic);
  whole.Number(kFormat);
  whole.Number(HashOf(rest));
  whole.Raw(rest);
  return whole.Take();
}

std::optional<Digests> Digests::Parse(std::string_view bytes) {
  cache::WireReader in(bytes);
  if (in.Raw(kDigestsMagic.size()) != kDigestsMagic) return std::nullopt;
  uint32_t format;
  uint64_t hash;
  in.Number(&format);
  in.Number(&hash);
  if (!in.ok() || format != kFormat || HashOf(in.rest()) != hash) return std::nullopt;
  Digests digests;
  in.Number(&digests.proofs);
  in.List(&digests.files, [&in](ContentProof* proof) { in.Number(proof); });
  if (!in.AtEnd()) return std::nullopt;
  return digests;
}

std::optional<Digests> TakeDigests(std::string_view packed_proofs) {
  Digests digests;
  digests.proofs = DigestsId(packed_proofs);
  for (const FileProof& file : UnpackProofs(packed_proofs)) {
    ContentProof& proof = digests.files.emplace_back();
    if (!HasContent(file.state)) continue;
    const auto content = ContentProofOf(file.path, file.link);
    // Looked at afterwards, so that it has been so all the time: its proof is from before.
    if (!content || AskedOf(file.path, file.link) != file.state) return std::nullopt;
    proof = *content;
  }
  return digests;
}

}  // namespace pylaunch::image
