#include "image/region_map.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "cache/descriptor.h"
#include "image/format.h"

namespace pylaunch::image {
namespace {

constexpr std::string_view kDeleted = " (deleted)";

// Takes a number and the separator behind it off the front of `text`.
bool TakeNumber(std::string_view* text, int base, char separator, uint64_t* number) {
  const auto [end, error] =
      std::from_chars(text->data(), text->data() + text->size(), *number, base);
  const size_t used = static_cast<size_t>(end - text->data());
  if (error != std::errc() || used >= text->size() || (*text)[used] != separator) return false;
  text->remove_prefix(used + 1);
  return true;
}

bool TakeRights(std::string_view* text, Region* region) {
  if (text->size() < 5 || (*text)[4] != ' ') return false;
  if ((*text)[0] == 'r') region->protection |= PROT_READ;
  if ((*text)[1] == 'w') region->protection |= PROT_WRITE;
  if ((*text)[2] == 'x') region->protection |= PROT_EXEC;
  region->shared = (*text)[3] == 's';
  text->remove_prefix(5);
  return true;
}

Region::Kind KindOf(std::string_view path, uint64_t inode) {
  if (path.empty() || path == "[heap]" || path.starts_with("[anon:")) {
    return Region::Kind::kAnonymous;
  }
  if (path == "[stack]") return Region::Kind::kStack;
  if (path == "[vsyscall]") return Region::Kind::kVsyscall;
  if (path == "[vdso]" || path.starts_with("[vvar")) return Region::Kind::kKernelPages;
  if (path[0] != '/' || inode == 0 || path.ends_with(kDeleted) || path.starts_with("/dev/") ||
      path.starts_with("/memfd:") || path.find('\\') != path.npos) {
    return Region::Kind::kForeign;
  }
  return Region::Kind::kFile;
}

// Of VmFlags (Documentation/filesystems/proc.rst): what fork(2) hands on and mmap(2)'s arguments do
// not say. What is not here is a right, of the kernel's own mappings, or of no consequence.
struct Flag {
  std::string_view name;
  uint32_t trait;
  const char* own = nullptr;
};
constexpr Flag kFlags[] = {
    {"wf", kWipedOnFork},
    {"dd", kNotDumped},
    {"hg", kHugePages},
    {"nh", kNoHugePages},
    {"mg", kMergeable},
    {"sr", kReadInOrder},
    {"rr", kReadAnywhere},
    {"dp", kDroppable},
    {"sl", kSealed},
    // A forked child has no such memory, so no restored process could have.
    {"dc", 0, "memory that forked processes do not get"},
    {"gd", 0, "memory that grows downward"},
    {"ht", 0, "memory in huge pages of its own"},
    {"ss", 0, "a shadow stack"},
    {"um", 0, "memory whose faults are told to userfaultfd"},
    {"uw", 0, "memory whose faults are told to userfaultfd"},
    {"ui", 0, "memory whose faults are told to userfaultfd"},
};

// A line of smaps that is not a region's first: "Rss:    4 kB".
bool IsProperty(std::string_view line) { return line.substr(0, line.find(' ')).ends_with(':'); }

void AddPage(uint64_t page, std::pmr::vector<PageRun>* runs) {
  if (!runs->empty() && runs->back().last == page) {
    ++runs->back().last;
  } else {
    runs->push_back({page, page + 1});
  }
}

}  // namespace

std::optional<Region> ParseRegion(std::string_view line, std::pmr::memory_resource* memory) {
  Region region(memory);
  uint64_t major = 0, minor = 0;
  if (!TakeNumber(&line, 16, '-', &region.start) || !TakeNumber(&line, 16, ' ', &region.end) ||
      !TakeRights(&line, &region) || !TakeNumber(&line, 16, ' ', &region.offset) ||
      !TakeNumber(&line, 16, ':', &major) || !TakeNumber(&line, 16, ' ', &minor) ||
      !TakeNumber(&line, 10, ' ', &region.inode)) {
    return std::nullopt;
  }
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  region.path = line;
  region.kind = KindOf(line, region.inode);
  // Anonymous shared memory is "/dev/zero (deleted)", so what is left is private.
  if (region.kind == Region::Kind::kAnonymous && region.shared) {
    region.kind = Region::Kind::kForeign;
  }
  return region;
}

void TakeTraits(std::string_view line, Region* region) {
  const auto words_of = [&](std::string_view name) {
    return line.starts_with(name) ? line.substr(name.size()) : std::string_view();
  };
  if (const std::string_view key = words_of("ProtectionKey:"); !key.empty()) {
    if (key.find_first_not_of(" 0") != key.npos) region->own = "memory with a protection key";
    return;
  }
  std::string_view flags = words_of("VmFlags:");
  for (; flags.size() >= 3; flags.remove_prefix(3)) {  // " rd wr mr"
    const std::string_view name = flags.substr(1, 2);
    for (const Flag& flag : kFlags) {
      if (flag.name != name) continue;
      region->traits |= flag.trait;
      if (flag.own != nullptr) region->own = flag.own;
    }
  }
}

std::pmr::vector<Region> ReadRegions(std::pmr::memory_resource* memory, bool traits) {
  std::pmr::vector<Region> regions(memory);
  const char* path = traits ? "/proc/self/smaps" : "/proc/self/maps";
  const cache::Descriptor maps(open(path, O_RDONLY | O_CLOEXEC));
  std::pmr::string text(memory);
  std::array<char, 16384> buffer;
  ssize_t n;
  while ((n = read(maps.get(), buffer.data(), buffer.size())) > 0) {
    text.append(buffer.data(), static_cast<size_t>(n));
  }
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (IsProperty(line)) {
      if (!regions.empty()) TakeTraits(line, &regions.back());
      continue;
    }
    std::optional<Region> region = ParseRegion(line, memory);
    if (!region) return std::pmr::vector<Region>(memory);
    regions.push_back(std::move(*region));
  }
  return regions;
}

std::string_view WhyNotAgain(const Region& region) {
  if (region.kind == Region::Kind::kForeign) return "memory that cannot be mapped again: ";
  if (region.kind == Region::Kind::kFile && region.shared &&
      (region.protection & PROT_WRITE) != 0) {
    return "a file mapped shared and writable: ";
  }
  return region.own;
}

bool IsOwnPage(uint64_t entry) {
  constexpr uint64_t kPresent = 1ull << 63, kSwapped = 1ull << 62, kFileOrShared = 1ull << 61;
  return (entry & (kPresent | kSwapped)) != 0 && (entry & kFileOrShared) == 0;
}

bool IsGuardPage(uint64_t entry) { return (entry & 1ull << 58) != 0; }

bool ReadOwnPages(uint64_t start, uint64_t end, std::pmr::vector<PageRun>* own,
                  std::pmr::vector<PageRun>* guards) {
  const cache::Descriptor pagemap(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  std::array<uint64_t, 2048> entries;
  for (uint64_t page = start / kPage; page < end / kPage;) {
    const size_t wanted = std::min<uint64_t>(entries.size(), end / kPage - page);
    const ssize_t n = pread(pagemap.get(), entries.data(), wanted * sizeof(uint64_t),
                            static_cast<off_t>(page * sizeof(uint64_t)));
    if (n != static_cast<ssize_t>(wanted * sizeof(uint64_t))) return false;
    for (size_t i = 0; i < wanted; ++i, ++page) {
      if (IsGuardPage(entries[i])) {
        AddPage(page, guards);
      } else if (IsOwnPage(entries[i])) {
        AddPage(page, own);
      }
    }
  }
  return true;
}

void JoinRuns(uint64_t gap, const PageRun& whole, std::pmr::vector<PageRun>* runs) {
  size_t kept = 0;
  for (const PageRun& run : *runs) {
    if (kept > 0 && run.first - (*runs)[kept - 1].last <= gap) {
      (*runs)[kept - 1].last = run.last;
    } else {
      (*runs)[kept++] = run;
    }
  }
  runs->resize(kept);
  if (kept == 0) return;
  if (runs->front().first - whole.first <= gap) runs->front().first = whole.first;
  if (whole.last - runs->back().last <= gap) runs->back().last = whole.last;
}

}  // namespace pylaunch::image
