#include "image/clock_search.h"

#include <bit>
#include <cstring>
#include <memory_resource>

#include "image/format.h"

namespace pylaunch::image {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr int64_t kTimes[] = {86'400'123'456'789, 86'400'000'000'001, 86'403'999'999'999};

std::vector<uint64_t> Memory(const std::vector<uint64_t>& words) {
  std::vector<uint64_t> memory(1024, 0x5555'1234'0000'0010);  // A pointer near by.
  std::copy(words.begin(), words.end(), memory.begin() + 500);
  return memory;
}

size_t FoundIn(const std::vector<uint64_t>& words) {
  ClockSearch search(kTimes, std::pmr::get_default_resource());
  const std::vector<uint64_t> memory = Memory(words);
  search.LookIn(reinterpret_cast<const char*>(memory.data()), memory.size() * sizeof(uint64_t),
                /*writable=*/true);
  return search.fixed() + search.movable().size();
}

uint64_t Bits(double value) { return std::bit_cast<uint64_t>(value); }
uint64_t U(int64_t value) { return static_cast<uint64_t>(value); }

TEST(ClockSearchTest, FindsEachTimeInEachForm) {
  for (const int64_t time : kTimes) {
    SCOPED_TRACE(time);
    EXPECT_EQ(FoundIn({U(time)}), 1u);
    EXPECT_EQ(FoundIn({U(time / 1'000'000'000), U(time % 1'000'000'000)}), 1u);
    EXPECT_EQ(FoundIn({Bits(static_cast<double>(time) / 1e9)}), 1u);
    EXPECT_EQ(FoundIn({Bits(static_cast<double>(time) * 1e-9)}), 1u);
    EXPECT_EQ(FoundIn({Bits(static_cast<double>(time / 1'000'000'000) +
                            static_cast<double>(time % 1'000'000'000) / 1e9)}),
              1u);
    EXPECT_EQ(FoundIn({(U(time) & 0x3fffffff) | (U(time) >> 30 << 32)}), 1u);
  }
}

TEST(ClockSearchTest, FindsRustsInstantWhateverFollowsIt) {
  EXPECT_EQ(
      FoundIn({U(kTimes[0] / 1'000'000'000), U(kTimes[0] % 1'000'000'000) | 0xdeadbeef'00000000}),
      1u);
}

TEST(ClockSearchTest, FindsNoOtherTimes) {
  for (const int64_t time : kTimes) {
    for (const int64_t other : {time - 1, time + 1, time + 1'000'000'000, time / 1000}) {
      SCOPED_TRACE(other);
      EXPECT_EQ(FoundIn({U(other)}), 0u);
      EXPECT_EQ(FoundIn({U(other / 1'000'000'000), U(other % 1'000'000'000)}), 0u);
      EXPECT_EQ(FoundIn({(U(other) & 0x3fffffff) | (U(other) >> 30 << 32)}), 0u);
      EXPECT_EQ(FoundIn({Bits(static_cast<double>(other) / 1e9)}), 0u);
    }
  }
}

class ClockSearchFormTest : public testing::Test {
 protected:
  // Of C's integers and timespecs, of which one may come to be changed, Python's and doubles.
  void LookIn(const std::vector<uint64_t>& words, bool writable = true) {
    memory_ = Memory(words);
    search_.LookIn(reinterpret_cast<const char*>(memory_.data()), memory_.size() * sizeof(uint64_t),
                   writable);
  }
  uint64_t AddressOf(size_t i) const { return reinterpret_cast<uint64_t>(&memory_[500 + i]); }

  std::vector<uint64_t> memory_;
  ClockSearch search_{kTimes, std::pmr::get_default_resource()};
};

TEST_F(ClockSearchFormTest, TellsWhereTheMovableAre) {
  LookIn({U(kTimes[0]), 7, U(kTimes[1] / 1'000'000'000), 1, U(kTimes[2])});
  EXPECT_EQ(search_.fixed(), 0u);
  EXPECT_THAT(search_.movable(),
              ElementsAre(AddressOf(0), AddressOf(2) | kTimespecMark, AddressOf(4)));
}

TEST_F(ClockSearchFormTest, DoublesAndDigitsStay) {
  LookIn({Bits(static_cast<double>(kTimes[0]) / 1e9), 7,
          (U(kTimes[1]) & 0x3fffffff) | (U(kTimes[1]) >> 30 << 32)});
  EXPECT_EQ(search_.fixed(), 2u);
  EXPECT_THAT(search_.movable(), IsEmpty());
}

TEST_F(ClockSearchFormTest, WhatMayBeAPointerStays) {
  std::pmr::vector<ClockSearch::Bounds> mapped = {
      {4096, 8192}, {U(kTimes[0]) - 1, U(kTimes[0])}, {U(kTimes[2]), U(kTimes[2]) + 4096}};
  search_.SetMapped(std::move(mapped));
  LookIn({U(kTimes[0]), U(kTimes[1]), U(kTimes[2])});
  EXPECT_EQ(search_.fixed(), 2u);
  EXPECT_THAT(search_.movable(), ElementsAre(AddressOf(1)));
}

TEST_F(ClockSearchFormTest, WhatCannotBeWrittenStays) {
  LookIn({U(kTimes[0])}, /*writable=*/false);
  EXPECT_EQ(search_.fixed(), 1u);
  EXPECT_THAT(search_.movable(), IsEmpty());
}

TEST(ClockSearchTest, WithoutTimesNothingIsFound) {
  ClockSearch search({}, std::pmr::get_default_resource());
  const std::vector<uint64_t> memory(64, 0);
  search.LookIn(reinterpret_cast<const char*>(memory.data()), memory.size() * sizeof(uint64_t),
                /*writable=*/true);
  EXPECT_EQ(search.fixed() + search.movable().size(), 0u);
}

TEST(ClockSearchTest, AfterAYearToo) {
  const int64_t times[] = {31'536'000'123'456'789, 31'536'000'123'456'790};
  for (const int64_t time : times) {
    ClockSearch search({&time, 1}, std::pmr::get_default_resource());
    const double seconds = static_cast<double>(time) / 1e9;
    const int64_t digits = (time & 0x3fffffff) | (time >> 30 << 32);
    uint64_t memory[] = {Bits(seconds), U(time), U(digits), 0};
    search.LookIn(reinterpret_cast<const char*>(memory), sizeof memory, /*writable=*/true);
    EXPECT_EQ(search.fixed() + search.movable().size(), 3u);
  }
}

}  // namespace
}  // namespace pylaunch::image
