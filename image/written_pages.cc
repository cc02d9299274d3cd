#include "image/written_pages.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "cache/descriptor.h"
#include "image/format.h"

namespace pylaunch::image {
namespace {

// include/uapi/linux/fs.h, which Debian 12's headers are too old for.
struct ScanArguments {
  uint64_t size;
  uint64_t flags;
  uint64_t start;
  uint64_t end;
  uint64_t walk_end;
  uint64_t vec;
  uint64_t vec_len;
  uint64_t max_pages;
  uint64_t category_inverted;
  uint64_t category_mask;
  uint64_t category_anyof_mask;
  uint64_t return_mask;
};
constexpr uint64_t kFile = 1 << 2;
constexpr uint64_t kPresent = 1 << 3;
constexpr uint64_t kSwapped = 1 << 4;

}  // namespace

bool WrittenPages::Scan(uintptr_t begin, uintptr_t end) {
  begin_ = end_ = begin & -kPage;
  runs_.clear();
  const cache::Descriptor pagemap(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pagemap.ok()) return false;
  std::vector<Run> batch(1024);
  ScanArguments arguments = {};
  arguments.size = sizeof arguments;
  arguments.start = begin_;
  arguments.end = (end + kPage - 1) & -kPage;
  arguments.vec = reinterpret_cast<uint64_t>(batch.data());
  arguments.vec_len = batch.size();
  arguments.category_inverted = kFile;
  arguments.category_mask = kFile;
  arguments.category_anyof_mask = kPresent | kSwapped;
  arguments.return_mask = kPresent;
  while (arguments.start < arguments.end) {
    const int count = ioctl(pagemap.get(), _IOWR('f', 16, ScanArguments), &arguments);
    if (count < 0) return false;
    runs_.insert(runs_.end(), batch.begin(), batch.begin() + count);
    arguments.start = arguments.walk_end;
  }
  end_ = arguments.end;
  return true;
}

bool WrittenPages::IsUntouched(const void* address) const {
  const auto place = reinterpret_cast<uintptr_t>(address);
  if (place < begin_ || place >= end_) return false;
  const auto is_before = [](const Run& run, uintptr_t at) { return run.end <= at; };
  // last_ is the first run that does not end before the address asked for last.
  if (last_ > 0 && !is_before(runs_[last_ - 1], place)) last_ = 0;
  if (last_ < runs_.size() && is_before(runs_[last_], place)) {
    const auto from = runs_.begin() + static_cast<ptrdiff_t>(last_);
    last_ =
        static_cast<size_t>(std::lower_bound(from, runs_.end(), place, is_before) - runs_.begin());
  }
  return last_ == runs_.size() || place < runs_[last_].begin;
}

}  // namespace pylaunch::image
