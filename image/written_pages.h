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
  // Scan() will look at the page of this address, and at the others of its page table: what others
  // hold takes longer to walk than to leave out.
  void Ask(const void* address);
  // False: the kernel does not tell, and all pages count as written.
  bool Scan();

  // True for an address that was asked for whose page still is the file's. Fast for addresses in
  // rising order.
  bool IsUntouched(const void* address) const;

 private:
  // As the kernel fills it in (struct page_region).
  struct Run {
    uint64_t begin;
    uint64_t end;
    uint64_t categories;
  };
  bool Append(int pagemap, uintptr_t begin, uintptr_t end);

  std::vector<uintptr_t> tables_;  // What is asked for: the beginnings of page tables' reaches.
  uintptr_t end_ = 0;              // Of what was scanned; from 0, what was not is a written run.
  std::vector<Run> runs_;          // Written, by address.
  mutable size_t last_ = 0;
};

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_WRITTEN_PAGES_H_
