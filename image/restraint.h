#ifndef PYLAUNCH_IMAGE_RESTRAINT_H_
#define PYLAUNCH_IMAGE_RESTRAINT_H_

#include <string>

#include "image/order.h"

namespace pylaunch::image {

// Why this start, which found no image in `folder`, is not to make another, in words that follow
// why it found none; empty if it is. Making one costs seconds of a processor and the room of images
// that others use, so nobody goes on with it for nothing:
// - Four for this command on this machine, of the last day, were never used. What preloading reads
//   is another thing at each start (JPY_PARENT_PID, a run's number).
// - In the last hour one was made from which no process could be restored
//   (launcher/contract/image_trial.h), or there was no room for one (image/room.h), or who
//   wrote it was killed.
std::string WhyNotAnother(const std::string& folder, const ImageOrder& order);

// Likewise, why this start does not adopt the image at `image`: within the last hour no process
// could be restored from it here. Those words; empty: it may.
std::string WhyNotAdopt(const std::string& image, const Facts& now);
// Notes such words for that.
void NoteNotAdopted(const std::string& image, const Facts& now, const std::string& why);

// Removes what is left in `folder` of this user's images whose writers were killed: all that is of
// this boot, which `facts` have, and of other hosts, whose locks may not be seen here, what nobody
// has written to for an hour. REQUIRES: the lock on `folder` that writers hold (folder_lock.h).
void RemoveUnfinished(const std::string& folder, const Facts& facts);

// True if somebody is making an image in `folder`.
bool IsBeingMade(const std::string& folder);

// True if since this start began another one has published an image (rename(2) sets the change
// time) that this one would have found.
bool IsMadeMeanwhile(const ImageOrder& order);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_RESTRAINT_H_
