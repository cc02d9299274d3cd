#include "cache/file_env.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "test_util.h"

namespace pylaunch::cache {
namespace {

using std::chrono::milliseconds;

mode_t ModeOf(const std::string& path) {
  struct stat st = {};
  EXPECT_EQ(stat(path.c_str(), &st), 0) << path;
  return st.st_mode & 07777;
}

TEST(FileEnv, MissingIsNotFoundWhereverSomethingIsRead) {
  TempFolder folder;
  FileEnv& env = PosixFileEnv();
  WriteAll(folder / "file", "x");
  for (const std::string& path : {folder / "none", folder / "no/ne", folder / "file/none"}) {
    EXPECT_EQ(env.Map(path).error().code, ErrorCode::kNotFound);
    EXPECT_EQ(env.Stat(path).error().code, ErrorCode::kNotFound);
    EXPECT_EQ(env.ReadFile(path, 10).error().code, ErrorCode::kNotFound);
    EXPECT_EQ(env.ListFolder(path).error().code, ErrorCode::kNotFound);
    EXPECT_NE(env.Stat(path).error().message.find(path), std::string::npos);
  }
  EXPECT_EQ(env.CreateTemp(folder / "no/ne").error().code, ErrorCode::kIo);
  EXPECT_EQ(env.ListFolder(folder / "file").error().code, ErrorCode::kIo);
}

TEST(FileEnv, MapTakesRegularFilesOnlyAndNeverBlocks) {
  TempFolder folder;
  FileEnv& env = PosixFileEnv();
  WriteAll(folder / "file", "content");
  ASSERT_EQ(symlink("file", (folder / "link").c_str()), 0);
  ASSERT_EQ(mkfifo((folder / "fifo").c_str(), 0600), 0);
  EXPECT_EQ(env.Map(folder / "file")->view(), "content");
  EXPECT_EQ(env.Map(folder / "link").error().code, ErrorCode::kUntrusted);
  EXPECT_EQ(env.Map(folder / "fifo").error().code, ErrorCode::kUntrusted);
  EXPECT_EQ(env.Map(folder.path()).error().code, ErrorCode::kUntrusted);
  EXPECT_FALSE(env.ReadFile(folder / "fifo", 10));
}

TEST(FileEnv, AnEmptyFileMapsToNothing) {
  TempFolder folder;
  WriteAll(folder / "file", "");
  const auto file = PosixFileEnv().Map(folder / "file");
  ASSERT_TRUE(file);
  EXPECT_EQ(file->size(), 0u);
}

TEST(FileEnv, ReadFileFollowsLinksAndKeepsItsLimit) {
  TempFolder folder;
  WriteAll(folder / "file", "content");
  ASSERT_EQ(symlink("file", (folder / "link").c_str()), 0);
  EXPECT_EQ(*PosixFileEnv().ReadFile(folder / "link", 7), "content");
  EXPECT_EQ(PosixFileEnv().ReadFile(folder / "file", 6).error().code, ErrorCode::kIo);
}

TEST(FileEnv, TempFilesArePrivateWhateverTheUmask) {
  TempFolder folder;
  for (const mode_t mask : {0, 0077, 0777}) {
    const mode_t before = umask(mask);
    auto file = PosixFileEnv().CreateTemp(folder / "a.pla");
    umask(before);
    ASSERT_TRUE(file);
    EXPECT_EQ(ModeOf((*file)->path()), 0600u);
    EXPECT_TRUE(IsTempNameFor(BaseOf((*file)->path()), "a.pla")) << (*file)->path();
  }
  EXPECT_EQ(TempFilesOf(folder / "a.pla").size(), 3u);
}

TEST(FileEnv, OnlyTempNamesOfThatVeryFileAreTempNames) {
  EXPECT_TRUE(IsTempNameFor("a.pla.tmp.0123456789abcdef", "a.pla"));
  EXPECT_FALSE(IsTempNameFor("a.pla", "a.pla"));
  EXPECT_FALSE(IsTempNameFor("a.pla.lock", "a.pla"));
  EXPECT_FALSE(IsTempNameFor("b.pla.tmp.0123456789abcdef", "a.pla"));
  EXPECT_FALSE(IsTempNameFor("a.pla.tmp.0123456789abcde", "a.pla"));
  EXPECT_FALSE(IsTempNameFor("a.pla.tmp.0123456789abcdeg", "a.pla"));
  EXPECT_FALSE(IsTempNameFor("a.pla.tmp.0123456789abcdef0", "a.pla"));
}

TEST(FileEnv, AppendGoesOnWhereAppendEnded) {
  TempFolder folder;
  auto file = PosixFileEnv().CreateTemp(folder / "a");
  ASSERT_TRUE(file);
  ASSERT_TRUE((*file)->Append("----"));
  ASSERT_TRUE((*file)->Append("tail"));
  ASSERT_TRUE((*file)->WriteAt(0, "head"));
  ASSERT_TRUE((*file)->Append("!"));
  ASSERT_TRUE((*file)->Sync());
  ASSERT_TRUE(PosixFileEnv().Rename((*file)->path(), folder / "a"));
  EXPECT_EQ(ReadAll(folder / "a"), "headtail!");
}

TEST(FileEnv, MakeFoldersMakesPrivateOnesAndIsContentWithThoseThere) {
  TempFolder folder;
  const std::string deep = folder / "x/y/z";
  ASSERT_TRUE(PosixFileEnv().MakeFolders(deep));
  EXPECT_EQ(ModeOf(folder / "x"), 0700u);
  EXPECT_EQ(ModeOf(deep), 0700u);
  ASSERT_TRUE(PosixFileEnv().MakeFolders(deep));
  ASSERT_TRUE(PosixFileEnv().MakeFolders("/"));
  ASSERT_TRUE(PosixFileEnv().MakeFolders("."));
  WriteAll(folder / "file", "");
  EXPECT_FALSE(PosixFileEnv().MakeFolders(folder / "file"));
  EXPECT_FALSE(PosixFileEnv().MakeFolders(folder / "file/x"));
}

TEST(FileEnv, LockKeepsAnotherProcessOutUntilItIsReleased) {
  TempFolder folder;
  const std::string path = folder / "lock";
  auto lock = PosixFileEnv().Lock(path, milliseconds(0));
  ASSERT_TRUE(lock);
  EXPECT_EQ(ModeOf(path), 0600u);
  // flock(2) locks belong to the open file, so that one process is enough to see them clash.
  const auto second = PosixFileEnv().Lock(path, milliseconds(30));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kBusy);
  lock->reset();
  EXPECT_TRUE(PosixFileEnv().Lock(path, milliseconds(0)));
}

// As a clean-up does: the lock file is removed by who holds the lock. One who opened it before and
// locks it after has locked a file that nobody else will ever open.
TEST(FileEnv, LockOfARemovedFileIsNotMistakenForTheNewOne) {
  TempFolder folder;
  const std::string path = folder / "lock";
  std::atomic<int> inside = 0, clashes = 0, rounds = 0;
  const auto work = [&] {
    for (int i = 0; i < 400; ++i) {
      const auto lock = PosixFileEnv().Lock(path, std::chrono::seconds(60));
      if (!lock) continue;
      ++rounds;
      if (inside++ != 0) ++clashes;
      std::this_thread::sleep_for(std::chrono::microseconds(50));
      --inside;
      (void)PosixFileEnv().Unlink(path);  // From here on, another may come in.
    }
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) threads.emplace_back(work);
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(rounds, 1600);
  EXPECT_EQ(clashes, 0);
}

TEST(FileEnv, FolderAndBase) {
  EXPECT_EQ(FolderOf("/a/b"), "/a");
  EXPECT_EQ(FolderOf("/a"), "/");
  EXPECT_EQ(FolderOf("a"), ".");
  EXPECT_EQ(BaseOf("/a/b"), "b");
  EXPECT_EQ(BaseOf("b"), "b");
}

}  // namespace
}  // namespace pylaunch::cache
