#include "image/written_pages.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>

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
constexpr uint64_t kTableReach = uint64_t{2} << 20;  // x86_64: 512 entries.
constexpr uint64_t kFile = 1 << 2;
constexpr uint64_t kPresent = 1 << 3;
constexpr uint64_t kSwapped = 1 << 4;

}  // namespace

void WrittenPages::Ask(const void* address) {
  const uintptr_t table = reinterpret_cast<uintptr_t>(address) & -kTableReach;
  if (tables_.empty() || tables_.back() != table) tables_.push_back(table);
}

bool WrittenPages::Scan() {
  end_ = 0;
  runs_.clear();
  const cache::Descriptor pagemap(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pagemap.ok()) return false;
  std::sort(tables_.begin(), tables_.end());
  tables_.erase(std::unique(tables_.begin(), tables_.end()), tables_.end());
  for (size_t first = 0, next; first < tables_.size(); first = next) {
    next = first + 1;
    while (next < tables_.size() && tables_[next] == tables_[next - 1] + kTableReach) ++next;
    runs_.push_back({end_, tables_[first], 0});
    if (!Append(pagemap.get(), tables_[first], tables_[next - 1] + kTableReach)) {
      end_ = 0;
      return false;
    }
  }
  return true;
}

bool WrittenPages::Append(int pagemap, uintptr_t begin, uintptr_t end) {
  std::array<Run, 1024> batch;
  ScanArguments arguments = {};
  arguments.size = sizeof arguments;
  arguments.start = begin;
  arguments.end = end_ = end;
  arguments.vec = reinterpret_cast<uint64_t>(batch.data());
  arguments.vec_len = batch.size();
  arguments.category_inverted = kFile;
  arguments.category_mask = kFile;
  arguments.category_anyof_mask = kPresent | kSwapped;
  arguments.return_mask = kPresent;
  while (arguments.start < end) {
    const int count = ioctl(pagemap, _IOWR('f', 16, ScanArguments), &arguments);
    if (count < 0) return false;
    runs_.insert(runs_.end(), batch.begin(), batch.begin() + count);
    arguments.start = arguments.walk_end;
  }
  return true;
}

bool WrittenPages::IsUntouched(const void* address) const {
  const auto place = reinterpret_cast<uintptr_t>(address);
  if (place >= end_) return false;
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
