#ifndef PYLAUNCH_IMAGE_PACKED_PROOFS_H_
#define PYLAUNCH_IMAGE_PACKED_PROOFS_H_

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "image/file_state.h"

namespace pylaunch::image {

// Proofs of thousands of files as a key has them, to be checked where they lie. The files are
// grouped by a folder that many of them are below, which is opened once: what stat(2) costs is for
// the most part the way from the root.
//
// u32 files | u32 groups | for each group: u64 where it begins | then each group: folder, u64
// number, and of each file its path from the folder on, a u8 of bits (1: link, 2: with rights), its
// StatProof, and its Rights if it has some, as folders do. Strings after a u64 of their length,
// with a NUL that it counts.
std::string PackProofs(const std::vector<FileProof>& files);

size_t CountProofs(std::string_view packed);

// The files, in the order in which they lie there: that of PackProofs of them. None: they are no
// proofs.
std::vector<FileProof> UnpackProofs(std::string_view packed);

// The path of a file that is not as it was; or what `change_of` says of one of so many others, if
// it says anything; or an empty string. On several threads where there are many (parallel.h).
std::string FirstChanged(
    std::string_view packed, size_t others = 0,
    const std::function<std::string(size_t)>& change_of = [](size_t) { return std::string(); });

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_PACKED_PROOFS_H_
