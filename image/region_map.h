#ifndef PYLAUNCH_IMAGE_REGION_MAP_H_
#define PYLAUNCH_IMAGE_REGION_MAP_H_

#include <cstdint>
#include <memory_resource>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

// What this process consists of, as the kernel tells it: proc(5), /proc/pid/maps, /proc/pid/smaps
// and /proc/pid/pagemap. All memory comes from the given resource, so that a process can be looked
// at without changing its heap meanwhile.

namespace pylaunch::image {

struct Region {
  enum class Kind {
    kAnonymous,
    kFile,
    kStack,        // The kernel's, "[stack]".
    kKernelPages,  // "[vvar]", "[vvar_vclock]", "[vdso]": the kernel's own, given to every process.
    kVsyscall,     // Has one fixed address in every process.
    kForeign,      // Deleted files, memory files, devices: cannot be mapped again.
  };
  Kind kind = Kind::kAnonymous;
  uint64_t start = 0;
  uint64_t end = 0;
  int protection = 0;  // PROT_*
  bool shared = false;
  uint64_t offset = 0;
  uint64_t inode = 0;
  std::pmr::string path;  // kFile, kForeign: the file's.
  uint32_t traits = 0;    // PieceTrait, but for kGuard, which is a page's.
  // In words, what nobody can give it anew (ReadRegions, `traits`): "a shadow stack". Empty:
  // nothing.
  std::string_view own;

  explicit Region(std::pmr::memory_resource* memory) : path(memory) {}
  uint64_t size() const { return end - start; }
};

// One line of /proc/self/maps, without the newline; nothing if it is none.
std::optional<Region> ParseRegion(std::string_view line, std::pmr::memory_resource* memory);

// Takes what a line of /proc/pid/smaps that is not a region's first says of it.
void TakeTraits(std::string_view line, Region* region);

// All regions in the order of their addresses; empty if /proc cannot be read. `traits`: with
// theirs, for which the kernel goes through all page tables: some 16 ms for a process of 400 MiB,
// where it is 2 without.
std::pmr::vector<Region> ReadRegions(std::pmr::memory_resource* memory, bool traits);

// Why `region` cannot be mapped again, in words that its path may follow; empty if it can. Not of
// the stack that the process runs on, which grows as the kernel's does.
std::string_view WhyNotAgain(const Region& region);

// Pages [first, last) of the address space, counted from address 0.
struct PageRun {
  uint64_t first;
  uint64_t last;
  bool operator==(const PageRun&) const = default;
};

// True for a pagemap entry whose page is the process's own: in memory or swapped out, and not a
// page of a file.
bool IsOwnPage(uint64_t pagemap_entry);
// For one that is a guard (MADV_GUARD_INSTALL), which nobody can read.
bool IsGuardPage(uint64_t pagemap_entry);

// The pages of [start, end) that are the process's own, and those that are guards, as runs; false
// if the pagemap cannot be read.
bool ReadOwnPages(uint64_t start, uint64_t end, std::pmr::vector<PageRun>* own,
                  std::pmr::vector<PageRun>* guards);

// Joins runs of `whole` that no more than `gap` pages part, and stretches the first and the last
// one to the ends of `whole` that are no farther away.
void JoinRuns(uint64_t gap, const PageRun& whole, std::pmr::vector<PageRun>* runs);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_REGION_MAP_H_
