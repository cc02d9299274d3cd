#ifndef PYLAUNCH_IMAGE_CLOCK_SEARCH_H_
#define PYLAUNCH_IMAGE_CLOCK_SEARCH_H_

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <utility>
#include <vector>

namespace pylaunch::image {

// Looks for times in memory: nanoseconds that a clock gave, which were noted. Each may be kept as
// an integer of 64 bits; as a timespec (clock_gettime(2); Rust's Instant has four bytes for the
// nanoseconds); as a double's seconds (Python's time.monotonic(), C++'s duration<double>); as two
// digits of a Python integer (Include/cpython/longintrepr.h, 30 bits in four bytes). All of these
// begin at multiples of eight. A word of memory is compared with the first and the last of the
// times, so that next to nothing is left to look up. Not found: other units, differences.
//
// Integers of 64 bits and timespecs are C's: another number may be put in their place. Doubles and
// digits may be Python's, which are not to change: a dict has put them where their hash says. Nor
// is to change what may be a pointer.
//
// All memory comes from `memory`: an image that is searched must not hold what is looked for.
class ClockSearch {
 public:
  struct Bounds {
    uint64_t first, last;
  };
  ClockSearch(std::span<const int64_t> times_ns, std::pmr::memory_resource* memory);
  // Where this process has memory. Both ends may be pointed at.
  void SetMapped(std::pmr::vector<Bounds> in_order) { mapped_ = std::move(in_order); }

  // Adds to what is found what is in the `size` bytes at `begin`. REQUIRES: both are multiples of
  // eight. `writable`: for the process that it is.
  void LookIn(const char* begin, size_t size, bool writable);
  // How many that are not to change.
  size_t fixed() const { return fixed_; }
  // Where the others are, as an image lists them (kTimespecMark in format.h).
  const std::pmr::vector<uint64_t>& movable() const { return movable_; }

 private:
  enum class Form { kNone, kInteger, kTimespec, kOther };
  // Words from `first` on, as many as `width` and one.
  struct Range {
    uint64_t first = 0, width = 0;
    // 1 or 0, so that several can be asked without a branch between them.
    unsigned Has(uint64_t word) const { return word - first <= width; }
  };

  bool IsTime(int64_t ns) const;
  // `word` as seconds in a double.
  bool IsSeconds(uint64_t word) const;
  Form FormAt(const uint64_t* word, const uint64_t* end) const;
  bool MayPoint(uint64_t word) const;

  std::pmr::vector<int64_t> times_;  // In order.
  Range integers_, seconds_, doubles_, digits_;
  std::pmr::vector<Bounds> mapped_;
  size_t fixed_ = 0;
  std::pmr::vector<uint64_t> movable_;
};

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_CLOCK_SEARCH_H_
