#include "image/clock_search.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "image/format.h"

namespace pylaunch::image {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr unsigned kDigitBits = 30;
constexpr uint64_t kDigitMask = (uint64_t{1} << kDigitBits) - 1;
// Of a double, by whichever order of multiplications it was made: some of its last bits.
constexpr double kRoundingError = 1e-15;

double Seconds(int64_t ns) { return static_cast<double>(ns) / static_cast<double>(kSecond); }

}  // namespace

ClockSearch::ClockSearch(std::span<const int64_t> times_ns, std::pmr::memory_resource* memory)
    : times_(times_ns.begin(), times_ns.end(), memory), mapped_(memory), movable_(memory) {
  std::sort(times_.begin(), times_.end());
  times_.erase(std::unique(times_.begin(), times_.end()), times_.end());
  if (times_.empty()) return;
  const int64_t first = times_.front(), last = times_.back();
  const auto range = [](uint64_t from, uint64_t to) { return Range{from, to - from}; };
  integers_ = range(static_cast<uint64_t>(first), static_cast<uint64_t>(last));
  seconds_ = range(static_cast<uint64_t>(first / kSecond), static_cast<uint64_t>(last / kSecond));
  doubles_ = range(std::bit_cast<uint64_t>(Seconds(first) * (1 - kRoundingError)),
                   std::bit_cast<uint64_t>(Seconds(last) * (1 + kRoundingError)));
  digits_ = range(integers_.first >> kDigitBits << 32,
                  (static_cast<uint64_t>(last) >> kDigitBits << 32) + kDigitMask);
}

bool ClockSearch::IsTime(int64_t ns) const {
  return std::binary_search(times_.begin(), times_.end(), ns);
}

bool ClockSearch::IsSeconds(uint64_t word) const {
  const double seconds = std::bit_cast<double>(word);
  const double error = seconds * kRoundingError;
  const auto at = std::partition_point(times_.begin(), times_.end(),
                                       [&](int64_t ns) { return Seconds(ns) < seconds - error; });
  return at != times_.end() && Seconds(*at) <= seconds + error;
}

bool ClockSearch::MayPoint(uint64_t word) const {
  const auto at = std::partition_point(mapped_.begin(), mapped_.end(),
                                       [&](const Bounds& bounds) { return bounds.last < word; });
  return at != mapped_.end() && at->first <= word;
}

ClockSearch::Form ClockSearch::FormAt(const uint64_t* word, const uint64_t* end) const {
  const uint64_t value = *word;
  if (integers_.Has(value) && IsTime(static_cast<int64_t>(value))) {
    return MayPoint(value) ? Form::kOther : Form::kInteger;
  }
  if (doubles_.Has(value) && IsSeconds(value)) return Form::kOther;
  if (seconds_.Has(value) && word + 1 < end) {
    // A whole second is as likely to be any other number with a zero behind it.
    const auto ns = static_cast<int64_t>(static_cast<uint32_t>(word[1]));
    if (ns != 0 && ns < kSecond && IsTime(static_cast<int64_t>(value) * kSecond + ns)) {
      return Form::kTimespec;
    }
  }
  const uint64_t low = value & 0xffffffff, high = value >> 32;
  const bool digits = digits_.Has(value) && low <= kDigitMask &&
                      IsTime(static_cast<int64_t>(high << kDigitBits | low));
  return digits ? Form::kOther : Form::kNone;
}

void ClockSearch::LookIn(const char* begin, size_t size, bool writable) {
  if (times_.empty()) return;
  const auto* word = reinterpret_cast<const uint64_t*>(begin);
  const auto* end = reinterpret_cast<const uint64_t*>(begin + size);
  const Range integers = integers_, seconds = seconds_, doubles = doubles_, digits = digits_;
  for (; word < end; ++word) {
    const uint64_t value = *word;
    if (value == 0) [[likely]]
      continue;
    const unsigned may_be =
        integers.Has(value) | doubles.Has(value) | seconds.Has(value) | digits.Has(value);
    const Form form = may_be ? FormAt(word, end) : Form::kNone;
    if (form == Form::kNone) continue;
    if (form == Form::kOther || !writable) {
      ++fixed_;
    } else {
      movable_.push_back(reinterpret_cast<uint64_t>(word) |
                         (form == Form::kTimespec ? kTimespecMark : 0));
    }
  }
}

}  // namespace pylaunch::image
