#include "image/image_files.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <optional>

#include "cache/file_env.h"
#include "image/folder_lock.h"

namespace pylaunch::image {
namespace {

const Facts kCommand = {{kPython, "/p"}};

TEST(ImageFiles, LieBesideEachOther) {
  const ImageFiles files = FilesFor("/c", kCommand, {{kBoot, "1"}});
  EXPECT_EQ(ImageOf(files.key), files.image);
  EXPECT_EQ(KeyOf(files.image), files.key);
  EXPECT_EQ(FamilyOf(files.image), files.family);
  EXPECT_TRUE(files.key.starts_with("/c/" + files.family + "-"));
  EXPECT_EQ(FamilyOf(NoteFor("/c", kCommand, {})), files.family);
  EXPECT_NE(NoteFor("/c", kCommand, {}), NoteFor("/c", kCommand, {{kBoot, "1"}}));
}

TEST(ImageFiles, OnesThatAreBeingWrittenAreToldByTheirNames) {
  const Facts boot = {{kBoot, "1"}}, other = {{kBoot, "2"}};
  const std::string path = UnfinishedFor("/c", kCommand, boot);
  EXPECT_TRUE(path.starts_with(FilesFor("/c", kCommand, boot).image + "." +
                               std::to_string(getpid()) + "-"));
  EXPECT_TRUE(IsUnfinished(cache::BaseOf(path)));
  EXPECT_TRUE(IsUnfinishedOf(cache::BaseOf(path), boot));
  EXPECT_FALSE(IsUnfinishedOf(cache::BaseOf(path), other));
  EXPECT_TRUE(IsUnfinished("a.img.1-0123abcd.tmp"));
  for (const char* name :
       {"a.img", "a.tmp", "a.img.tmp", "a.img..tmp", "a.img.1.tmp", "a.img.1x-0123abcd.tmp",
        "a.img.-0123abcd.tmp", "a.img.1-0123abc.tmp", "a.img.1-0123abcg.tmp",
        "a.key.1-0123abcd.tmp", "a.img.1-0123abcd.tmp.", "a-0123abcd.tmp", ".tmp", ""}) {
    EXPECT_FALSE(IsUnfinished(name)) << name;
  }
}

TEST(Facts, NamesOfWhatPreloadingMayAskFor) {
  EXPECT_EQ(TerminalFact(2), "whether stream 2 is a terminal");
  EXPECT_EQ(IgnoredFact(SIGHUP), "whether SIGHUP is ignored");
  EXPECT_EQ(IgnoredFact(SIGSYS), "whether SIGSYS is ignored");
  EXPECT_EQ(IgnoredFact(64), "whether signal 64 is ignored");
}

TEST(Facts, AValueIsFoundByItsName) {
  EXPECT_EQ(ValueOf(kCommand, kPython), "/p");
  EXPECT_EQ(ValueOf(kCommand, kBoot), "");
}

TEST(FolderLock, OneHasItUntilItGoesOrTheProcess) {
  std::string name = testing::TempDir() + "lock-XXXXXX";
  const std::string folder = mkdtemp(name.data());
  std::optional<FolderLock> first(folder);
  EXPECT_FALSE(FolderLock(folder).IsTaken());
  EXPECT_TRUE(first->Take(/*wait=*/false));
  EXPECT_TRUE(FolderLock(folder).IsTaken());
  EXPECT_FALSE(FolderLock(folder).Take(/*wait=*/false));
  EXPECT_EQ(errno, EWOULDBLOCK);
  first.reset();
  EXPECT_FALSE(FolderLock(folder).IsTaken());
  {
    FolderLock kept(folder);
    EXPECT_TRUE(kept.Take(/*wait=*/true));
    kept.HoldToTheEnd();
  }
  EXPECT_TRUE(FolderLock(folder).IsTaken());
  rmdir(folder.c_str());
  FolderLock absent(folder);
  EXPECT_FALSE(absent.Take(/*wait=*/false) || absent.IsTaken());
}

}  // namespace
}  // namespace pylaunch::image
