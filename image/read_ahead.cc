#include "image/read_ahead.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <system_error>
#include <utility>

#include "cache/descriptor.h"
#include "image/format.h"

namespace pylaunch::image {
namespace {

// The kernel reads no more at one call than the disk's limits, which may be as small.
constexpr uint64_t kRequest = uint64_t{128} << 10;
// How many pages of an image are looked at. What is not used is taken from memory in no order.
constexpr size_t kLooks = 8;

// Where the file system cannot say, it is not.
bool IsInMemory(int fd, uint64_t page) {
  char byte;
  const iovec to = {&byte, 1};
  return preadv2(fd, &to, 1, static_cast<off_t>(page * kPage), RWF_NOWAIT) == 1;
}

bool AllInMemory(int fd, const std::vector<PageRun>& runs) {
  const size_t looks = std::min(kLooks, runs.size());
  for (size_t i = 0; i < looks; ++i) {
    if (!IsInMemory(fd, runs[i * runs.size() / looks].first)) return false;
  }
  return true;
}

void AskFor(int fd, const std::vector<PageRun>& runs) {
  for (const PageRun& run : runs) {
    for (uint64_t at = run.first * kPage; at < run.last * kPage; at += kRequest) {
      readahead(fd, static_cast<off_t>(at), std::min(kRequest, run.last * kPage - at));
    }
  }
}

void AskForAll(const PageList& list, int image) {
  for (const PageList::File& file : list.files) {
    if (file.path.empty()) {
      AskFor(image, file.runs);
      continue;
    }
    // A pipe that has taken its place would never let go of who opens it.
    const cache::Descriptor fd(
        open(file.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (fd.ok()) AskFor(fd.get(), file.runs);
  }
}

}  // namespace

ReadingAhead::ReadingAhead(int image, bool always) {
  std::optional<PageList> list = ReadPageList(image);
  if (!list || list->files.empty()) return;
  if (!always && AllInMemory(image, list->files.front().runs)) return;
  list_ = *std::move(list);
  try {
    thread_ = std::thread([this, image] { AskForAll(list_, image); });
  } catch (const std::system_error&) {
    AskForAll(list_, image);
  }
}

ReadingAhead::~ReadingAhead() {
  if (thread_.joinable()) thread_.join();
}

}  // namespace pylaunch::image
