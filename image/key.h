#ifndef PYLAUNCH_IMAGE_KEY_H_
#define PYLAUNCH_IMAGE_KEY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "image/facts.h"
#include "image/file_state.h"
#include "image/folder_names.h"
#include "image/packed_proofs.h"

// Which process may be restored from an image: the key file beside it. Two kinds of evidence: facts
// about the host, the command and the environment, which must be equal, and the state of every file
// and folder that the preloaded process came from.

namespace pylaunch::image {

// The beginning of a key, which alone decides whether the rest is worth a look; without proofs
// (--cache-mode sealed) it is all that a start reads.
struct KeyHead {
  Facts facts;  // With those of the environment that count for `reads`.
  VariableReads reads;
  std::vector<std::string> asked;  // Names of the askable facts that are among `facts`.
  FileState image;                 // The image file's own.
  // Of an adopted one (adoption.h): the inode here of each file that the image maps, hexadecimal,
  // with commas, in the order of its table; empty: as the table has them.
  std::string inodes;
  // Of an adopted one: made in another boot, so that its times are to be moved (format.h).
  bool moved = false;
  bool shared = false;  // Made for other users, too (--image-build --shared).
  uint64_t table = 0;   // Hash of its first `table_size` bytes.
  uint64_t table_size = 0;
  uint64_t content = 0;  // ContentHash (collection.h) of all of it, which a start does not check.
  // For people: the entries that it was made without, and why (late.h).
  std::vector<std::string> late;
  // For people: why it is for this boot only, though all facts be equal ("it keeps 3 times of a
  // clock that begins with the boot"). Empty: it may be used after a reboot, and on another host.
  std::string boot;
};

struct Key : KeyHead {
  std::string files = PackProofs({});  // packed_proofs.h
  std::vector<FolderProof> folders;

  std::string Serialize() const;
  // Nothing: truncated, altered, or of another format.
  static std::optional<Key> Parse(std::string bytes);
  // Of a key's first bytes; as many as HeadSize says.
  static std::optional<KeyHead> ParseHead(std::string_view bytes);
  // `bytes`: the first kHeadPrefix or more of a key. 0: they cannot be.
  static constexpr size_t kHeadPrefix = 36;
  static size_t HeadSize(std::string_view bytes);
};

// The first file or folder that is not as it was, in words; or an empty string.
std::string FirstChange(const Key& key);

uint64_t TableHash(std::string_view bytes);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_KEY_H_
