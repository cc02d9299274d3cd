#ifndef PYLAUNCH_IMAGE_KEY_H_
#define PYLAUNCH_IMAGE_KEY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "image/file_state.h"
#include "image/packed_proofs.h"

// Which process may be restored from an image: the key file beside it. Two kinds of evidence: facts
// about the host, the command and the environment, which must be equal, and the state of every file
// and folder that the preloaded process came from.

namespace pylaunch::image {

// The program that becomes an image; it lies beside the engine.
inline constexpr char kRestorer[] = "pylaunch-restore";

// `value` is for comparison only; what may be secret is put in as a hash.
struct Fact {
  std::string name;
  std::string value;
  bool operator==(const Fact&) const = default;
};
using Facts = std::vector<Fact>;

// A keyed hash of a value that is not to be kept, as text.
std::string Hashed(std::string_view value);

// Of these facts the one that has no value where nothing tells this boot from another.
inline constexpr std::string_view kBoot = "boot id";
// How its value begins where it is the boot's time, for want of an id.
inline constexpr std::string_view kBootTime = "btime ";

// Of this process and its machine: boot, kernel, vdso, processor, C library's view of it, user,
// supplementary groups, capabilities, umask, affinity, open standard streams,
// stack limit. Call while there is one thread only: the umask cannot be read without setting it.
Facts MachineFacts();

// Variables that what became an image has read, whether they were set or not.
struct VariableReads {
  std::vector<std::string> names;     // Ascending.
  std::vector<std::string> prefixes;  // All variables whose names begin so.
  std::string all;  // Why all of them count: in words, who may have gone through them; or empty.
};
// Every variable, but pylaunch's own; one fact each, by name.
Facts EnvironmentFacts(char** environment);
// Of these the ones that `reads` makes part of an image's facts: those named there, those that C
// libraries and Python itself read where nobody can see it, and where `all` is true all but those
// that shells and terminals change from start to start.
Facts Counting(const Facts& environment, const VariableReads& reads);

// Of facts that count only if they were asked for, those that were; kernel_files.h's as they are
// now.
Facts Asked(const Facts& askable, const std::vector<std::string>& names);

// True for a name in a folder that an import could ask for.
bool IsImportable(std::string_view name);

// Hashes of the names in a folder, but __pycache__; 0: it cannot be read.
struct FolderNames {
  uint64_t all = 0;
  uint64_t importable = 0;  // Of those alone that an import can ask for.
  bool operator==(const FolderNames&) const = default;
};
FolderNames NamesIn(const std::string& path);

// A folder that modules were looked for in. Results that programs write there change its state, but
// what imports find only if a name that an import can ask for comes or goes; `names` is a hash of
// these. Of `state` the rights must be so in any case; the rest, where it is so, saves the look at
// the names.
struct FolderProof {
  std::string path;
  FileState state;
  uint64_t names = 0;
  bool all = false;  // Somebody listed it: every name counts.
};
// `read_at_ns`: CLOCK_REALTIME.
FolderProof ProveFolder(const std::string& path, int64_t read_at_ns, bool all);

// The beginning of a key, which alone decides whether the rest is worth a look; without proofs
// (--cache-mode sealed) it is all that a start reads.
struct KeyHead {
  Facts facts;  // With those of the environment that count for `reads`.
  VariableReads reads;
  std::vector<std::string> asked;  // Names of the askable facts that are among `facts`.
  FileState image;                 // The image file's own.
  uint64_t table = 0;              // Hash of its first `table_size` bytes.
  uint64_t table_size = 0;
  uint64_t content = 0;  // ContentHash (collection.h) of all of it, which a start does not check.
  // For people: the entries that it was made without, and why (late.h).
  std::vector<std::string> late;
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

// How a refusal ends that time alone cures.
inline constexpr std::string_view kTooYoung =
    " changed less than two seconds before this start, or since";

// How those begin after which nobody tries again for an hour: no process could be restored from the
// image that was written; making one would have taken more memory or disk than there is
// (image/room.h); the process that wrote it was killed. The last is told in advance, by that
// process.
inline constexpr std::string_view kNotRestored = "no process can be restored from it: ";
inline constexpr std::string_view kNoRoom = "no room for an image: ";
inline constexpr std::string_view kUnfinished =
    "the process that was to write it ended before it was done";

// In words, what differs, or an empty string. "boot id changed"; "variable HOME changed".
std::string Difference(const Facts& made, const Facts& now);
// The first file or folder that is not as it was, in words; or an empty string.
std::string FirstChange(const Key& key);

uint64_t TableHash(std::string_view bytes);

inline constexpr std::string_view kKeySuffix = ".key";
// The image that the key at `key` is for.
std::string ImageOf(std::string_view key);

// Key and image lie beside each other in `folder`. Images of one command share `family`.
struct ImageFiles {
  std::string family;  // Beginning of the names (no folder) of all images of this command.
  std::string key;
  std::string image;
};
// `all`: a key's facts.
ImageFiles FilesFor(const std::string& folder, const Facts& command, const Facts& all);
// Where it is told why the last capture of this command made no image; `facts` are a key's without
// the environment's.
std::string NoteFor(const std::string& folder, const Facts& command, const Facts& facts);
// Likewise, which entries the next capture does without (late.h).
std::string LateFor(const std::string& folder, const Facts& command, const Facts& facts);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_KEY_H_
