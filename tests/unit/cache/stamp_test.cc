#include "cache/stamp.h"

#include <gtest/gtest.h>

namespace pylaunch::cache {
namespace {

TEST(Stamp, KeepsNanoseconds) {
  struct stat st = {};
  st.st_mtim = {.tv_sec = 1'700'000'000, .tv_nsec = 123'456'789};
  st.st_ctim = {.tv_sec = 1'700'000'001, .tv_nsec = 1};
  st.st_size = 5'000'000'000;
  st.st_ino = 42;
  EXPECT_EQ(SourceStampOf(st), (SourceStamp{.mtime_ns = 1'700'000'000'123'456'789,
                                            .size = 5'000'000'000,
                                            .ctime_ns = 1'700'000'001'000'000'001,
                                            .inode = 42}));
  EXPECT_EQ(FolderStampOf(st), (FolderStamp{.mtime_ns = 1'700'000'000'123'456'789,
                                            .ctime_ns = 1'700'000'001'000'000'001,
                                            .inode = 42}));
}

TEST(Stamp, TimesBefore1970AreNegative) {
  struct stat st = {};
  st.st_mtim = {.tv_sec = -1, .tv_nsec = 999'999'999};
  EXPECT_EQ(SourceStampOf(st).mtime_ns, -1);
}

TEST(Stamp, FreshAndFutureStampsProveNothing) {
  const int64_t now = 1'700'000'000'000'000'000;
  EXPECT_FALSE(IsProvable(now, now));
  EXPECT_FALSE(IsProvable(now - kRacyWindowNs, now));
  EXPECT_TRUE(IsProvable(now - kRacyWindowNs - 1, now));
  EXPECT_FALSE(IsProvable(now + 3'600'000'000'000, now));
}

TEST(BuildKey, TextIsOneLineAndTellsAllPartsApart) {
  const BuildKey key = {
      .python = "3.11.7 (main)\n[GCC]", .environment = "/a\nb", .magic = 7, .optimize = 0};
  EXPECT_EQ(key.Text(),
            "python=3.11.7 (main)\\n[GCC] magic=0x00000007 optimize=0 environment=/a\\nb");
  BuildKey other = key;
  other.optimize = 2;
  EXPECT_NE(other.Text(), key.Text());
  other = key;
  other.magic = 8;
  EXPECT_NE(other.Text(), key.Text());
  other = key;
  other.environment = "/a\\nb";
  EXPECT_NE(other.Text(), key.Text());
  EXPECT_NE(other.FileName(), key.FileName());
}

TEST(BuildKey, FileNameIsReadableAndStaysInItsFolder) {
  BuildKey key = {.python = "3.11.7 (main)", .environment = "/a", .magic = 7, .optimize = 0};
  const std::string name = key.FileName();
  EXPECT_TRUE(name.starts_with("3.11.7-")) << name;
  EXPECT_TRUE(name.ends_with(".pla")) << name;
  EXPECT_EQ(name.size(), 7u + 16 + 4);
  key.python = "../../etc/passwd";
  EXPECT_EQ(key.FileName().find('/'), std::string::npos);
  EXPECT_TRUE(key.FileName().starts_with("python")) << key.FileName();
  key.python = "";
  EXPECT_TRUE(key.FileName().starts_with("python-")) << key.FileName();
}

TEST(BuildKey, TextTellsTheEnvironment) {
  BuildKey key;
  key.python = "3.11.7 environment of mine";
  for (const char* environment : {"/venv", "/a\nb\\n\r environment=/c", ""}) {
    key.environment = environment;
    EXPECT_EQ(EnvironmentOf(key.Text()), environment);
  }
  EXPECT_EQ(EnvironmentOf("no key"), "");
}

}  // namespace
}  // namespace pylaunch::cache
