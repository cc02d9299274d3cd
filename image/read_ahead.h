#ifndef PYLAUNCH_IMAGE_READ_AHEAD_H_
#define PYLAUNCH_IMAGE_READ_AHEAD_H_

#include <thread>

#include "image/page_list.h"

namespace pylaunch::image {

// Has the pages that a process of an image needs (page_list.h) read from the disk, while this
// thread proves its files. Nothing that it meets is an error. In memory already: ten system calls.
class ReadingAhead {
 public:
  // Begins, if the image that is open as `image` has a list and not all of its pages are in memory.
  // `always`: also if they are, since its libraries' may not be. -1: there is none. The descriptor
  // must outlive this.
  ReadingAhead(int image, bool always);
  // Waits until all has been asked for; it may still be under way.
  ~ReadingAhead();
  ReadingAhead(const ReadingAhead&) = delete;
  ReadingAhead& operator=(const ReadingAhead&) = delete;

 private:
  PageList list_;
  std::thread thread_;
};

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_READ_AHEAD_H_
