#ifndef PYLAUNCH_IMAGE_IMAGE_FILES_H_
#define PYLAUNCH_IMAGE_IMAGE_FILES_H_

#include <string>
#include <string_view>

#include "image/facts.h"

// The names of all files that belong to images, and how notes begin. In the images' folder of the
// cache folder:
//
//   FAMILY-STATE.img          an image; FAMILY is a hash of the command's facts, STATE of all facts
//   FAMILY-STATE.key          its key (key.h); its mtime is the time of last use
//   FAMILY-STATE.digests      what proves the key's files elsewhere (digests.h)
//   FAMILY-STATE.adopted-HOST the image's key on another host, or in another boot (adoption.h)
//   FAMILY-STATE.HOST.note    why that host, or boot, could not adopt the image (restraint.h)
//   FAMILY-START.note         why the last capture made none; START: all but the environment's
//   FAMILY-START.late         what the next one does without (late.h)
//   FAMILY-START.img.PID-BOOT.tmp  an image that the process PID is writing; BOOT: a hash of the
//                             boot's id, since a folder may be several hosts'
//
// and what FileEnv::CreateTemp makes of any of them.

namespace pylaunch::image {

inline constexpr char kImagesFolder[] = "images";  // Of the cache folder.

inline constexpr std::string_view kImageSuffix = ".img";
inline constexpr std::string_view kKeySuffix = ".key";
inline constexpr std::string_view kDigestsSuffix = ".digests";
inline constexpr std::string_view kAdoptedMark = ".adopted-";
inline constexpr std::string_view kNoteSuffix = ".note";
inline constexpr std::string_view kLateSuffix = ".late";

// The program that becomes an image; it lies beside the engine.
inline constexpr char kRestorer[] = "pylaunch-restore";

// The image that what lies at `key` is for, a key, an adopted one or digests; and the key of the
// image at `image`.
std::string ImageOf(std::string_view key);
std::string KeyOf(std::string_view image);
std::string DigestsOf(std::string_view image);
// Its key on the host of that name (travel.h, HostOf).
std::string AdoptedOf(std::string_view image, std::string_view host);
// Why there is none on that host.
std::string NotAdoptedOf(std::string_view image, std::string_view host);
// True for the path or name of such a key.
bool IsAdopted(std::string_view key);

// The FAMILY of an image's path: what the names of all images of one command begin with.
std::string FamilyOf(std::string_view image);

// Key and image lie beside each other in `folder`.
struct ImageFiles {
  std::string family;
  std::string key;
  std::string image;
};
// `all`: a key's facts.
ImageFiles FilesFor(const std::string& folder, const Facts& command, const Facts& all);
// Where it is told why the last capture of this command made no image; `facts` are a key's without
// the environment's.
std::string NoteFor(const std::string& folder, const Facts& command, const Facts& facts);
// Likewise, which entries the next capture does without.
std::string LateFor(const std::string& folder, const Facts& command, const Facts& facts);
// Likewise, where this process writes an image.
std::string UnfinishedFor(const std::string& folder, const Facts& command, const Facts& facts);

// True for a name (no folder) that UnfinishedFor has given.
bool IsUnfinished(std::string_view name);
// And that was of this boot of this host, by any `facts` that have it.
bool IsUnfinishedOf(std::string_view name, const Facts& facts);

// How a note ends about what time alone cures.
inline constexpr std::string_view kTooYoung =
    " changed less than two seconds before this start, or since";

// How those begin after which nobody tries again for an hour: no process could be restored from the
// image that was written; making one would have taken more memory or disk than there is (room.h);
// the process that wrote it was killed. The last is told in advance, by that process.
inline constexpr std::string_view kNotRestored = "no process can be restored from it: ";
inline constexpr std::string_view kNoRoom = "no room for an image: ";
inline constexpr std::string_view kUnfinished =
    "the process that was to write it ended before it was done";

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_IMAGE_FILES_H_
