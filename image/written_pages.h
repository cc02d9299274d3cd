#ifndef PYLAUNCH_IMAGE_WRITTEN_PAGES_H_
#define PYLAUNCH_IMAGE_WRITTEN_PAGES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace pylaunch::image {

// The pages that this process has written since it was restored: they are its own, the others are
// still the image's file. What lies on those is what it was when the image was captured, and need
// not be looked at, which would read it from the file.
//
// From the PAGEMAP_SCAN ioctl on /proc/self/pagemap (Linux 6.7; the kernel's
// Documentation/admin-guide/mm/pagemap.rst). Pages that a restored process has from the start
// without the file count as written, as do those that have been swapped out.
class WrittenPages {
 public:
  // Looks at [begin, end). False: the kernel does not tell, and all pages count as written.
  bool Scan(uintptr_t begin, uintptr_t end);

  // True for an address in what was scanned whose page still is the file's. Fast for addresses in
  // rising order.
  bool IsUntouched(const void* address) const;

 private:
  // As the kernel fills it in (struct page_region).
  struct Run {
    uint64_t begin;
    uint64_t end;
    uint64_t categories;
  };
  uintptr_t begin_ = 0;
  uintptr_t end_ = 0;
  std::vector<Run> runs_;  // Written, by address.
  mutable size_t last_ = 0;
};

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_WRITTEN_PAGES_H_
