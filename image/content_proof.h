#ifndef PYLAUNCH_IMAGE_CONTENT_PROOF_H_
#define PYLAUNCH_IMAGE_CONTENT_PROOF_H_

#include <cstdint>
#include <optional>
#include <string>

#include "cache/stamp.h"
#include "cache/stat_proof.h"
#include "image/file_state.h"

namespace pylaunch::image {

// What proves a file where its stamps say nothing: what is in it, and what else may be asked about
// it but its place and times.
struct ContentProof {
  // XXH3-128 of all its bytes, or of a symbolic link's text. Of an ELF file of more than a MiB that
  // has a build-id (ld(1), --build-id), of its first and last 64 KiB, in which that, the headers
  // and the section table stand: whoever links or strips it anew, or patches its headers, changes
  // these.
  cache::SourceDigest bytes;
  cache::Rights rights;
  // A hash of extended attributes and access lists (xattr(7)); 0: it has none. Without those of
  // security modules, which label files anew on each host.
  uint64_t attributes = 0;
  bool operator==(const ContentProof&) const = default;
};

// Reads the file. Nothing: it cannot be read. Any thread.
std::optional<ContentProof> ContentProofOf(const std::string& path, bool link);

// True for what has such a proof: a file or link. Of folders and devices the state says
// all (file_state.h, AskedOf), of what was not there nothing else.
bool HasContent(const FileState& state);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_CONTENT_PROOF_H_
