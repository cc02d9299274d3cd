#include "image/region_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

#include "image/format.h"

namespace pylaunch::image {
namespace {

using testing::ElementsAre;

std::pmr::memory_resource* Heap() { return std::pmr::get_default_resource(); }

Region Parse(std::string_view line) {
  std::optional<Region> region = ParseRegion(line, Heap());
  EXPECT_TRUE(region.has_value()) << line;
  return region.value_or(Region(Heap()));
}

TEST(ParseRegion, ReadsALibrary) {
  const Region region = Parse(
      "7f34e6c1c000-7f34e6d72000 r-xp 00026000 fe:00 339380       "
      "/usr/lib/x86_64-linux-gnu/libc.so.6");
  EXPECT_EQ(region.kind, Region::Kind::kFile);
  EXPECT_EQ(region.start, 0x7f34e6c1c000u);
  EXPECT_EQ(region.size(), 0x156000u);
  EXPECT_EQ(region.protection, PROT_READ | PROT_EXEC);
  EXPECT_FALSE(region.shared);
  EXPECT_EQ(region.offset, 0x26000u);
  EXPECT_EQ(region.inode, 339380u);
  EXPECT_EQ(region.path, "/usr/lib/x86_64-linux-gnu/libc.so.6");
}

TEST(ParseRegion, TellsKindsApart) {
  const auto kind = [](const std::string& rest) {
    return Parse("1000-2000 rw-p 00000000 00:00 " + rest).kind;
  };
  EXPECT_EQ(kind("0 "), Region::Kind::kAnonymous);
  EXPECT_EQ(kind("0      [heap]"), Region::Kind::kAnonymous);
  EXPECT_EQ(kind("0      [anon:arena]"), Region::Kind::kAnonymous);
  EXPECT_EQ(kind("0      [stack]"), Region::Kind::kStack);
  EXPECT_EQ(kind("0      [vdso]"), Region::Kind::kKernelPages);
  EXPECT_EQ(kind("0      [vvar_vclock]"), Region::Kind::kKernelPages);
  EXPECT_EQ(kind("0      [vsyscall]"), Region::Kind::kVsyscall);
  EXPECT_EQ(kind("7      /a b/c"), Region::Kind::kFile);
  EXPECT_EQ(kind("7      /a/c (deleted)"), Region::Kind::kForeign);
  EXPECT_EQ(kind("7      /memfd:x (deleted)"), Region::Kind::kForeign);
  EXPECT_EQ(kind("7      /dev/dri/card0"), Region::Kind::kForeign);
  EXPECT_EQ(kind("7      anon_inode:[perf_event]"), Region::Kind::kForeign);
  EXPECT_EQ(kind("7      /a\\012b"), Region::Kind::kForeign);  // A newline in the name.
  EXPECT_EQ(Parse("1000-2000 rw-s 00000000 00:01 0 ").kind, Region::Kind::kForeign);
}

TEST(ParseRegion, RefusesWhatIsNoRegion) {
  for (const char* line : {"", "1000", "1000-2000", "1000-2000 rw-p", "x-2000 rw-p 0 00:00 0 ",
                           "1000-2000 rw-p 00000000 00:00 x "}) {
    EXPECT_FALSE(ParseRegion(line, Heap()).has_value()) << line;
  }
}

Region WithFlags(std::string_view line) {
  Region region = Parse("1000-2000 rw-p 00000000 00:00 0 ");
  TakeTraits(line, &region);
  return region;
}

TEST(TakeTraits, KnowsWhatAMappingIsGivenAgain) {
  const auto traits = [](std::string_view flags) { return WithFlags(flags).traits; };
  EXPECT_EQ(traits("VmFlags: rd wr mr mw me ac "), 0u);
  EXPECT_EQ(traits("VmFlags: rd wr mr mw me nr wf dd dp "), kWipedOnFork | kNotDumped | kDroppable);
  EXPECT_EQ(traits("VmFlags: rd hg nh mg sr rr sl "),
            kHugePages | kNoHugePages | kMergeable | kReadInOrder | kReadAnywhere | kSealed);
  EXPECT_EQ(traits("VmFlags: wf"), kWipedOnFork);
  for (const char* other : {"", "VmFlags:", "VmFlags: ", "Rss:       4 kB", "VmFlags: x"}) {
    EXPECT_EQ(traits(other), 0u) << other;
  }
}

TEST(TakeTraits, KnowsWhatCannotBeGivenAgain) {
  const auto why = [](std::string_view line) { return WhyNotAgain(WithFlags(line)); };
  EXPECT_EQ(why("VmFlags: rd wr mr mw me ac wf dd nh sl "), "");
  EXPECT_EQ(why("VmFlags: rd wr dc ac "), "memory that forked processes do not get");
  EXPECT_EQ(why("VmFlags: rd wr gd ac "), "memory that grows downward");
  EXPECT_EQ(why("VmFlags: rd wr ss "), "a shadow stack");
  for (const char* traced : {"VmFlags: um ", "VmFlags: uw ", "VmFlags: ui "}) {
    EXPECT_EQ(why(traced), "memory whose faults are told to userfaultfd");
  }
  EXPECT_EQ(why("ProtectionKey:         1"), "memory with a protection key");
  EXPECT_EQ(why("ProtectionKey:         0"), "");
}

TEST(WhyNotAgain, GoesByWhatIsMapped) {
  const auto why = [](const std::string& line) { return std::string(WhyNotAgain(Parse(line))); };
  EXPECT_EQ(why("1000-2000 rw-s 00000000 fe:00 7 /a"), "a file mapped shared and writable: ");
  EXPECT_EQ(why("1000-2000 r--s 00000000 fe:00 7 /a"), "");
  EXPECT_EQ(why("1000-2000 rw-p 00000000 fe:00 7 /a (deleted)"),
            "memory that cannot be mapped again: ");
}

TEST(ReadRegions, TellsTraitsOfTheSameRegions) {
  void* block = mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(block, MAP_FAILED);
  ASSERT_EQ(madvise(block, kPage, MADV_DONTDUMP), 0);
  for (const bool traits : {false, true}) {
    const auto regions = ReadRegions(Heap(), traits);
    const auto found = std::find_if(regions.begin(), regions.end(), [&](const Region& r) {
      return r.start == reinterpret_cast<uint64_t>(block);
    });
    ASSERT_NE(found, regions.end());
    EXPECT_EQ(found->traits, traits ? kNotDumped : 0u);
  }
  munmap(block, kPage);
}

TEST(ReadRegions, FindsThisFunctionAndStaysInItsMemory) {
  char buffer[1 << 16];
  std::pmr::monotonic_buffer_resource memory(buffer, sizeof buffer);
  const auto regions = ReadRegions(&memory, /*traits=*/false);
  const auto here = reinterpret_cast<uint64_t>(&Heap);
  const auto found = std::find_if(regions.begin(), regions.end(), [here](const Region& r) {
    return r.start <= here && here < r.end;
  });
  ASSERT_NE(found, regions.end());
  EXPECT_TRUE(found->protection & PROT_EXEC);
  EXPECT_EQ(found->kind, Region::Kind::kFile);
}

TEST(ReadOwnPages, AreThoseThatWereWritten) {
  constexpr size_t kPages = 16;
  void* block =
      mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(block, MAP_FAILED);
  madvise(block, kPages * kPage, MADV_NOHUGEPAGE);
  char* bytes = static_cast<char*>(block);
  for (size_t page : {2, 3, 9}) bytes[page * kPage] = 1;
  const uint64_t first = reinterpret_cast<uint64_t>(block) / kPage;
  std::pmr::vector<PageRun> runs, guards;
  ASSERT_TRUE(ReadOwnPages(first * kPage, (first + kPages) * kPage, &runs, &guards));
  EXPECT_TRUE(guards.empty());
  EXPECT_THAT(runs, ElementsAre(PageRun{first + 2, first + 4}, PageRun{first + 9, first + 10}));
  munmap(block, kPages * kPage);
}

TEST(ReadOwnPages, TellsGuardsApart) {
  constexpr size_t kPages = 4;
  constexpr int kGuardInstall = 102;  // MADV_GUARD_INSTALL, Linux 6.13; pagemap tells since 6.15.
  void* block =
      mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(block, MAP_FAILED);
  std::memset(block, 1, kPages * kPage);
  if (madvise(static_cast<char*>(block) + kPage, kPage, kGuardInstall) != 0) {
    GTEST_SKIP() << "this kernel knows no guards";
  }
  const uint64_t first = reinterpret_cast<uint64_t>(block) / kPage;
  std::pmr::vector<PageRun> runs, guards;
  ASSERT_TRUE(ReadOwnPages(first * kPage, (first + kPages) * kPage, &runs, &guards));
  EXPECT_THAT(guards, ElementsAre(PageRun{first + 1, first + 2}));
  EXPECT_THAT(runs, ElementsAre(PageRun{first, first + 1}, PageRun{first + 2, first + 4}));
  munmap(block, kPages * kPage);
}

TEST(IsOwnPage, KnowsFilesAndAbsentPages) {
  EXPECT_TRUE(IsOwnPage(1ull << 63));
  EXPECT_TRUE(IsOwnPage(1ull << 62));
  EXPECT_FALSE(IsOwnPage(0));
  EXPECT_FALSE(IsOwnPage((1ull << 63) | (1ull << 61)));
}

TEST(JoinRuns, JoinsAcrossSmallGapsOnly) {
  std::pmr::vector<PageRun> runs = {{1, 2}, {4, 5}, {9, 10}, {20, 30}};
  JoinRuns(4, {0, 40}, &runs);
  EXPECT_THAT(runs, ElementsAre(PageRun{0, 10}, PageRun{20, 30}));
  runs.clear();
  JoinRuns(4, {0, 40}, &runs);
  EXPECT_TRUE(runs.empty());
}

TEST(JoinRuns, ReachesToEndsThatAreNear) {
  std::pmr::vector<PageRun> runs = {{15, 20}, {26, 30}};
  JoinRuns(5, {10, 35}, &runs);
  EXPECT_THAT(runs, ElementsAre(PageRun{10, 20}, PageRun{26, 35}));
  runs = {{15, 20}, {26, 30}};
  JoinRuns(5, {9, 36}, &runs);
  EXPECT_THAT(runs, ElementsAre(PageRun{15, 20}, PageRun{26, 30}));
}

}  // namespace
}  // namespace pylaunch::image
