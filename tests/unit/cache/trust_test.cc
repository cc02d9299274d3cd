#include "cache/trust.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/unit/cache/test_util.h"

namespace pylaunch::cache {
namespace {

TEST(Trust, MapsSayWhoIsKnown) {
  const char* all = "         0          0 4294967295\n";
  EXPECT_TRUE(IsMapped(all, 0));
  EXPECT_TRUE(IsMapped(all, 65534));
  EXPECT_FALSE(IsMapped(all, 4294967295u));
  const char* two = "      1000       1000          1\n         0     100000      65534\n";
  EXPECT_TRUE(IsMapped(two, 1000));
  EXPECT_TRUE(IsMapped(two, 65533));
  EXPECT_FALSE(IsMapped(two, 65534));
  EXPECT_FALSE(IsMapped("", 0));
  EXPECT_FALSE(IsMapped("nonsense", 0));
}

TEST(Trust, OwnFilesAndRootsAreTrustedIfNobodyElseCanWriteThem) {
  TempFolder folder;
  WriteAll(folder / "file", "x");
  struct stat st = {};
  ASSERT_EQ(stat((folder / "file").c_str(), &st), 0);
  const auto why = [&](uid_t owner, mode_t mode) {
    st.st_uid = owner;
    st.st_mode = S_IFREG | mode;
    return WhyNotTrusted(PosixFileEnv(), st, folder / "file");
  };
  EXPECT_EQ(why(geteuid(), 0600), "");
  EXPECT_EQ(why(0, 0644), "");
  EXPECT_EQ(why(geteuid(), 0620), "is writable by others");
  EXPECT_EQ(why(0, 0602), "is writable by others");
  EXPECT_EQ(why(geteuid() + 1, 0600), "belongs to another user");
  EXPECT_EQ(why(65534, 0600), "belongs to another user") << "there is a nobody here";
}

}  // namespace
}  // namespace pylaunch::cache
