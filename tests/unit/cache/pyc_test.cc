#include "cache/pyc.h"

#include <gtest/gtest.h>

#include <string>

namespace pylaunch::cache {
namespace {

constexpr uint32_t kMagic = 0x0a0d0da7;
constexpr int64_t kSecond = 1'000'000'000;

std::string Header(uint32_t flags, uint32_t mtime, uint32_t size, uint32_t magic = kMagic) {
  const uint32_t fields[4] = {magic, flags, mtime, size};
  return {reinterpret_cast<const char*>(fields), sizeof fields};
}

PycState StateFor(int64_t mtime_ns, uint64_t size, const std::string& pyc) {
  return PycStateOf(pyc, {.mtime_ns = mtime_ns, .size = size}, kMagic);
}

// What `importlib._bootstrap_external` of 3.11 writes for files of these times and sizes.
TEST(Pyc, TheMtimeIsTheOneThatCPythonWrites) {
  struct Case {
    int64_t mtime_ns;
    uint32_t written;
  };
  for (const auto& [mtime_ns, written] : {
           Case{0, 0},
           Case{kSecond - 1, 0},  // The float of 0.999999999 is none of 1.
           Case{1'700'000'000 * kSecond, 1'700'000'000},
           Case{1'700'000'000 * kSecond + 999'999'880, 1'700'000'000},
           Case{1'700'000'000 * kSecond + 999'999'999, 1'700'000'001},  // Of this one it is.
           Case{-1, 0},  // int() cuts towards zero...
           Case{-kSecond / 2, 0},
           Case{-kSecond, 0xffffffff},
           Case{-3 * kSecond / 2, 0xffffffff},  // ...so this is -1, not -2.
           Case{-2 * kSecond, 0xfffffffe},
           Case{(int64_t{1} << 32) * kSecond, 0},
           Case{((int64_t{1} << 32) + 7) * kSecond + 1, 7},
           Case{((int64_t{1} << 32) - 1) * kSecond, 0xffffffff},
       }) {
    EXPECT_EQ(StateFor(mtime_ns, 5, Header(0, written, 5)), PycState::kCurrent) << mtime_ns;
    EXPECT_EQ(StateFor(mtime_ns, 5, Header(0, written + 1, 5)), PycState::kStale) << mtime_ns;
    EXPECT_EQ(StateFor(mtime_ns, 5, Header(0, written - 1, 5)), PycState::kStale) << mtime_ns;
  }
}

TEST(Pyc, TheSizeIsCutTo32Bits) {
  EXPECT_EQ(StateFor(0, (uint64_t{1} << 32) + 3, Header(0, 0, 3)), PycState::kCurrent);
  EXPECT_EQ(StateFor(0, 4, Header(0, 0, 3)), PycState::kStale);
}

TEST(Pyc, HashesAreNotTimes) {
  EXPECT_EQ(StateFor(0, 0, Header(1, 0, 0)), PycState::kHashed);
  EXPECT_EQ(StateFor(0, 0, Header(3, 0, 0)), PycState::kCheckedHash);
}

TEST(Pyc, WhatNoPythonOfOursLoads) {
  const std::string good = Header(0, 0, 0);
  EXPECT_EQ(StateFor(0, 0, good), PycState::kCurrent);
  EXPECT_EQ(StateFor(0, 0, good.substr(0, kPycHeader - 1)), PycState::kUnusable);
  EXPECT_EQ(StateFor(0, 0, ""), PycState::kUnusable);
  EXPECT_EQ(StateFor(0, 0, Header(0, 0, 0, kMagic + 1)), PycState::kUnusable);
  EXPECT_EQ(StateFor(0, 0, Header(4, 0, 0)), PycState::kUnusable);
}

}  // namespace
}  // namespace pylaunch::cache
