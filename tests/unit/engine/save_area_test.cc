#include "launcher/engine/imaging/save_area.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>

namespace pylaunch::engine {
namespace {

TEST(SaveAreaTest, TheDynamicLoaderOfThisMachineIsKnown) { EXPECT_TRUE(SaveArea::Now().known()); }

// What ld.so itself has computed for this processor (ld.so(8), since 2.33).
TEST(SaveAreaTest, RoomIsWhatTheLoaderTakesOrLittleMore) {
  FILE* pipe = popen("/lib64/ld-linux-x86-64.so.2 --list-diagnostics 2>/dev/null", "r");
  char line[256];
  unsigned long size = 0;
  constexpr char kName[] = "x86.cpu_features.xsave_state_size=";
  while (std::fgets(line, sizeof line, pipe) != nullptr) {
    if (std::strncmp(line, kName, sizeof kName - 1) == 0) {
      std::sscanf(line + sizeof kName - 1, "%lx", &size);
    }
  }
  pclose(pipe);
  if (size == 0) GTEST_SKIP() << "this loader does not tell";
  constexpr uint64_t kAll = 0xe7;  // Up to AVX-512.
  EXPECT_GE(SaveArea::RoomFor(kAll), size);
  EXPECT_LE(SaveArea::RoomFor(kAll), size + 256);
}

TEST(SaveAreaTest, LessStateTakesLessRoom) {
  EXPECT_LT(SaveArea::RoomFor(0x3), SaveArea::RoomFor(0x7));
  EXPECT_LE(SaveArea::RoomFor(0x7), SaveArea::RoomFor(0xe7));
}

}  // namespace
}  // namespace pylaunch::engine
