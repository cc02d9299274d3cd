#ifndef PYLAUNCH_IMAGE_CONTENT_DIGEST_H_
#define PYLAUNCH_IMAGE_CONTENT_DIGEST_H_

#include <optional>

#include "cache/stamp.h"
#include "image/file_state.h"

namespace pylaunch::image {

// What proves a file where its stamps say nothing. XXH3-128 of all its bytes, or of a symbolic
// link's text. Of an ELF file of more than a MiB that has a build-id (ld(1), --build-id), of its
// first and last 64 KiB, in which that, the headers and the section table stand: whoever links or
// strips it anew, or patches its headers, changes these. Nothing: it cannot be read. Any thread.
std::optional<cache::SourceDigest> ContentDigest(const std::string& path, bool link);

// True for what ContentDigest is asked about: a file or link. Of folders and devices the state says
// all (file_state.h, AskedOf), of what was not there nothing else.
bool HasContent(const FileState& state);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_CONTENT_DIGEST_H_
