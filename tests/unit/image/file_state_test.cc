#include "image/file_state.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

namespace pylaunch::image {
namespace {

struct stat StatOf(mode_t mode, uid_t user, gid_t group) {
  struct stat st = {};
  st.st_dev = 1, st.st_ino = 2, st.st_size = 3, st.st_mtim = {4, 5}, st.st_ctim = {6, 7};
  st.st_rdev = 8;
  st.st_mode = mode, st.st_uid = user, st.st_gid = group;
  return st;
}

TEST(FileState, OfAFolderOnlyItsRightsCount) {
  const struct stat st = StatOf(S_IFDIR | 0755, 9, 10);
  EXPECT_EQ(AskedOf(st), (FileState{{}, {S_IFDIR | 0755, 9, 10}}));
  EXPECT_NE(AskedOf(st), AskedOf(StatOf(S_IFDIR | 0750, 9, 10)));
  EXPECT_NE(AskedOf(st), FileState()) << "it is there";
}

// User and group once stood in one number, where 1 << 24 of the one was 1 of the other.
TEST(FileState, UserAndGroupAreTwoThings) {
  EXPECT_NE(AskedOf(StatOf(S_IFDIR, 1 << 24, 0)), AskedOf(StatOf(S_IFDIR, 0, 1)));
}

TEST(FileState, OfADeviceWhichItIsAndItsRights) {
  const struct stat st = StatOf(S_IFCHR | 0600, 9, 10);
  EXPECT_EQ(AskedOf(st), (FileState{{.device = 8}, {S_IFCHR | 0600, 9, 10}}));
}

TEST(FileState, OfAFileCtimeTellsWhatHappenedToItsRights) {
  struct stat st = StatOf(S_IFREG | 0600, 9, 10);
  const FileState before = AskedOf(st);
  EXPECT_EQ(before, (FileState{{1, 2, 3, 4'000'000'005, 6'000'000'007}, {}}));
  st.st_mode = S_IFREG | 0644;
  st.st_ctim.tv_sec = 7;
  EXPECT_TRUE(DifferInCtimeAlone(before, AskedOf(st)));
  st.st_size = 4;
  EXPECT_FALSE(DifferInCtimeAlone(before, AskedOf(st)));
}

}  // namespace
}  // namespace pylaunch::image
