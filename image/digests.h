#ifndef PYLAUNCH_IMAGE_DIGESTS_H_
#define PYLAUNCH_IMAGE_DIGESTS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "image/content_proof.h"

// The file NAME.digests beside an image: what proves, on another host, the files of the key
// NAME.key (adoption.h). An image without one holds where it was made.

namespace pylaunch::image {

struct Digests {
  uint64_t proofs = 0;  // DigestsId of the key's files.
  // Of each, in the order of UnpackProofs; all 0 where there is no content.
  std::vector<ContentProof> files;

  std::string Serialize() const;
  // Nothing: truncated, altered, or of another format.
  static std::optional<Digests> Parse(std::string_view bytes);
};

uint64_t DigestsId(std::string_view packed_proofs);

// Reads all files, on this thread. Nothing: one of them is not, or is no more, as its proof says.
std::optional<Digests> TakeDigests(std::string_view packed_proofs);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_DIGESTS_H_
