#ifndef PYLAUNCH_IMAGE_ADOPTION_H_
#define PYLAUNCH_IMAGE_ADOPTION_H_

#include <cstdint>
#include <string>

#include "image/digests.h"
#include "image/key.h"

// An image that was made on another host, in another boot or for another copy of the same files
// holds here if all it was made of has the same content. Proving that reads all of it, once: then
// this host has a key of its own for the same image (image_files.h, NAME.adopted-HOST), by which
// later starts go as if it had been made here.

namespace pylaunch::image {

struct AdoptionQuery {
  const Key& made;
  const Digests& digests;  // Of `made`.
  const Facts& now;        // Of a start; those of the host count.
  std::string path;        // Of the image...
  int image = -1;          // ...which is open for reading.
  int64_t started_ns = 0;  // CLOCK_REALTIME of this start.
};

struct Adoption {
  // In words, the first thing that is not as it was, or why the rest cannot be told; empty: the
  // image holds here.
  std::string why_not;
  Key key;  // Of this host.
  // Whether later starts may go by its stamps: not if something was changed (made, unpacked) within
  // the last two seconds.
  bool lasting = false;
};

// REQUIRES: travel.h has nothing against it. On several threads.
Adoption Adopt(const AdoptionQuery& query);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_ADOPTION_H_
