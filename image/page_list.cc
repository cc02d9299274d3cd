#include "image/page_list.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory_resource>
#include <utility>

#include "cache/descriptor.h"
#include "cache/file_env.h"
#include "cache/wire.h"
#include "image/format.h"
#define XXH_INLINE_ALL
#include "xxhash.h"

namespace pylaunch::image {
namespace {

// One request more costs a disk about as much as so many pages.
constexpr uint64_t kJoin = 2;

uint64_t HashOf(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

// Adds the pages of `region` that are in memory, or swapped out, as pages of its file.
bool AddNeeded(int pagemap, const Region& region, std::vector<PageRun>* runs) {
  constexpr uint64_t kPresent = 1ull << 63, kSwapped = 1ull << 62;
  std::array<uint64_t, 2048> entries;
  const uint64_t shift = region.offset / kPage - region.start / kPage;
  for (uint64_t page = region.start / kPage; page < region.end / kPage;) {
    const size_t wanted = std::min<uint64_t>(entries.size(), region.end / kPage - page);
    const size_t size = wanted * sizeof entries[0];
    const auto at = static_cast<off_t>(page * sizeof entries[0]);
    if (pread(pagemap, entries.data(), size, at) != static_cast<ssize_t>(size)) return false;
    for (size_t i = 0; i < wanted; ++i, ++page) {
      if ((entries[i] & (kPresent | kSwapped)) == 0) continue;
      const uint64_t in_file = page + shift;
      if (!runs->empty() && runs->back().last == in_file) {
        ++runs->back().last;
      } else {
        runs->push_back({in_file, in_file + 1});
      }
    }
  }
  return true;
}

// In order, and none overlaps another: a file may be mapped twice.
std::vector<PageRun> Joined(std::vector<PageRun> runs) {
  std::sort(runs.begin(), runs.end(), [](const PageRun& a, const PageRun& b) {
    return std::pair(a.first, a.last) < std::pair(b.first, b.last);
  });
  std::vector<PageRun> joined;
  for (const PageRun& run : runs) {
    if (!joined.empty() && run.first <= joined.back().last + kJoin) {
      joined.back().last = std::max(joined.back().last, run.last);
    } else {
      joined.push_back(run);
    }
  }
  return joined;
}

}  // namespace

uint64_t PageList::bytes() const {
  uint64_t pages = 0;
  for (const File& file : files) {
    for (const PageRun& run : file.runs) pages += run.last - run.first;
  }
  return pages * kPage;
}

// Hash of the rest u64 | a list of files, each a path and a list of pairs u32
std::string PageList::Serialize() const {
  cache::WireWriter out;
  out.List(files, [&out](const File& file) {
    out.String(file.path);
    out.List(file.runs, [&out](const PageRun& run) {
      out.Number(static_cast<uint32_t>(run.first));
      out.Number(static_cast<uint32_t>(run.last));
    });
  });
  const std::string rest = out.Take();
  cache::WireWriter list;
  list.Number(HashOf(rest));
  list.Raw(rest);
  return list.Take();
}

std::optional<PageList> PageList::Parse(std::string_view bytes) {
  cache::WireReader in(bytes);
  uint64_t hash;
  in.Number(&hash);
  if (!in.ok() || HashOf(in.rest()) != hash) return std::nullopt;
  PageList list;
  in.List(&list.files, [&in](File* file) {
    in.String(&file->path);
    in.List(&file->runs, [&in](PageRun* run) {
      uint32_t first, last;
      in.Number(&first);
      in.Number(&last);
      *run = {first, last};
    });
  });
  if (!in.AtEnd()) return std::nullopt;
  return list;
}

bool PageList::AddThisProcess(const std::string& image) {
  struct stat st;
  const cache::Descriptor pagemap(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pagemap.ok() || stat(image.c_str(), &st) != 0) return false;
  std::map<std::string, std::vector<PageRun>> needed;
  for (const Region& region : ReadRegions(std::pmr::get_default_resource(), /*traits=*/false)) {
    if (region.kind != Region::Kind::kFile) continue;
    const bool ours =
        region.inode == st.st_ino && cache::BaseOf(region.path) == cache::BaseOf(image);
    auto& runs = needed[ours ? std::string() : std::string(region.path)];
    if (!AddNeeded(pagemap.get(), region, &runs)) return false;
  }
  if (!needed.contains("")) return false;
  for (const File& file : files) {
    auto& runs = needed[file.path];
    runs.insert(runs.end(), file.runs.begin(), file.runs.end());
  }
  files.clear();
  for (auto& [path, runs] : needed) {
    if (!runs.empty()) files.push_back({path, Joined(std::move(runs))});
  }
  return true;
}

bool AppendPageList(const std::string& image, std::string_view list) {
  const cache::Descriptor file(open(image.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  const int fd = file.get();
  Header header;
  if (pread(fd, &header, sizeof header, 0) != sizeof header) return false;
  header.needed_offset = header.file_size;
  header.needed_size = list.size();
  header.file_size += (list.size() + kPage - 1) / kPage * kPage;
  return pwrite(fd, list.data(), list.size(), static_cast<off_t>(header.needed_offset)) ==
             static_cast<ssize_t>(list.size()) &&
         ftruncate(fd, static_cast<off_t>(header.file_size)) == 0 &&
         pwrite(fd, &header, sizeof header, 0) == sizeof header && fsync(fd) == 0;
}

std::optional<PageList> ReadPageList(int fd) {
  Header header;
  if (pread(fd, &header, sizeof header, 0) != sizeof header || header.format != kFormat ||
      header.needed_size == 0 || header.needed_size > kMostListBytes) {
    return std::nullopt;
  }
  std::string bytes(header.needed_size, '\0');
  const ssize_t n = pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(header.needed_offset));
  if (n != static_cast<ssize_t>(bytes.size())) return std::nullopt;
  std::optional<PageList> list = PageList::Parse(bytes);
  if (list && list->bytes() > kMostListedBytes) return std::nullopt;
  return list;
}

}  // namespace pylaunch::image
