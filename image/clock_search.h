#ifndef PYLAUNCH_IMAGE_CLOCK_SEARCH_H_
#define PYLAUNCH_IMAGE_CLOCK_SEARCH_H_

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <vector>

namespace pylaunch::image {

// Looks for times in memory: nanoseconds that a clock gave, which were noted. Each may be kept as
// an integer of 64 bits; as a timespec (clock_gettime(2); Rust's Instant has four bytes for the
// nanoseconds); as a double's seconds (Python's time.monotonic(), C++'s duration<double>); as two
// digits of a Python integer (Include/cpython/longintrepr.h, 30 bits in four bytes). All of these
// begin at multiples of eight. A word of memory is compared with the first and the last of the
// times, so that next to nothing is left to look up. Not found: other units, differences.
//
// All memory comes from `memory`: an image that is searched must not hold what is looked for.
class ClockSearch {
 public:
  ClockSearch(std::span<const int64_t> times_ns, std::pmr::memory_resource* memory);

  // Adds to `found` what is in the `size` bytes at `begin`. REQUIRES: both are multiples of eight.
  void LookIn(const char* begin, size_t size);
  size_t found() const { return found_; }
  // Where the last one was found.
  const void* last_found() const { return last_; }

 private:
  // Words from `first` on, as many as `width` and one.
  struct Range {
    uint64_t first = 0, width = 0;
    bool Has(uint64_t word) const { return word - first <= width; }
  };

  bool IsTime(int64_t ns) const;
  // `word` as seconds in a double.
  bool IsSeconds(uint64_t word) const;
  bool IsTimeAt(const uint64_t* word, const uint64_t* end) const;

  std::pmr::vector<int64_t> times_;  // In order.
  Range integers_, seconds_, doubles_, digits_;
  size_t found_ = 0;
  const void* last_ = nullptr;
};

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_CLOCK_SEARCH_H_
