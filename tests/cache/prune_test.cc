#include "cache/prune.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "cache/archive.h"
#include "cache/archive_reader.h"
#include "cache/archive_writer.h"
#include "faulty_file_env.h"
#include "test_util.h"

namespace pylaunch::cache {
namespace {

// Archives of some 10 KiB, used so many seconds ago.
class PruneTest : public testing::Test {
 protected:
  std::string Make(const std::string& name, int64_t unused_for) {
    const std::string path = folder_ / name;
    auto writer = ArchiveWriter::Create(PosixFileEnv(), path, TestKey());
    EXPECT_TRUE((*writer)->AddModule("/m.py", {}, {}, CodeOf(1, 40'000)));
    EXPECT_TRUE((*writer)->Finish());
    WriteAll(path + ".lock", "");
    Use(path, unused_for);
    return path;
  }
  static void Use(const std::string& path, int64_t ago) {
    const int64_t now = PosixFileEnv().NowNs() / 1'000'000'000;
    const timespec times[2] = {{now - ago, 0}, {now - 1'000'000, 0}};
    ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
  }
  uint64_t Size(const std::string& path) { return std::filesystem::file_size(path); }
  PruneOutcome PruneTo(uint64_t bytes, const std::string& keep = "") {
    auto outcome = Prune(PosixFileEnv(), folder_.path(), bytes, keep);
    EXPECT_TRUE(outcome);
    return *outcome;
  }

  TempFolder folder_;
};

TEST_F(PruneTest, RemovesWhatWasUsedLongestAgoAndNoMoreThanNeeded) {
  const std::string newest = Make("a.pla", 10), oldest = Make("b.pla", 1000),
                    middle = Make("c.pla", 100);
  const uint64_t size = Size(newest);
  const PruneOutcome outcome = PruneTo(2 * size);
  ASSERT_EQ(outcome.removed.size(), 1u);
  EXPECT_EQ(outcome.removed[0].path, oldest);
  EXPECT_EQ(outcome.bytes_before, 3 * size);
  EXPECT_EQ(outcome.bytes_after, 2 * size);
  EXPECT_EQ(NamesIn(folder_.path()).size(), 4u);
  EXPECT_FALSE(std::filesystem::exists(oldest) || std::filesystem::exists(oldest + ".lock"));
  EXPECT_EQ(PruneTo(1).removed.size(), 2u);
  EXPECT_TRUE(NamesIn(folder_.path()).empty());
}

TEST_F(PruneTest, ZeroIsNoBoundAndAnAbsentFolderHoldsNothing) {
  Make("a.pla", 10);
  EXPECT_TRUE(PruneTo(0).removed.empty());
  const auto outcome = Prune(PosixFileEnv(), folder_ / "absent", 1, "");
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->bytes_before, 0u);
}

TEST_F(PruneTest, AdditionsCountAndGoWithTheirArchive) {
  const std::string base = Make("a.pla", 1000), delta = Make("a.delta.pla", 10),
                    other = Make("b.pla", 100);
  ASSERT_EQ(DeltaPath(base), delta);
  const PruneOutcome outcome = PruneTo(2 * Size(base));
  ASSERT_EQ(outcome.removed.size(), 1u);
  EXPECT_EQ(outcome.removed[0].path, other) << "the other's last use is longer ago";
  EXPECT_EQ(PruneTo(1).removed.size(), 1u);
  EXPECT_FALSE(std::filesystem::exists(base) || std::filesystem::exists(delta));
}

TEST_F(PruneTest, WhatAProcessHasMappedStays) {
  const std::string used = Make("a.pla", 1000), unused = Make("b.pla", 10);
  const auto reader = ArchiveReader::OpenAny(PosixFileEnv(), used);
  ASSERT_TRUE(reader);
  const PruneOutcome outcome = PruneTo(1);
  ASSERT_EQ(outcome.in_use.size(), 1u);
  EXPECT_EQ(outcome.in_use[0].path, used);
  ASSERT_EQ(outcome.removed.size(), 1u);
  EXPECT_EQ(outcome.removed[0].path, unused);
  EXPECT_TRUE(std::filesystem::exists(used));
}

TEST_F(PruneTest, WhatIsBeingWrittenOrIsToBeKeptStays) {
  const std::string written = Make("a.pla", 1000), kept = Make("b.pla", 1000);
  const auto lock = PosixFileEnv().Lock(written + ".lock", std::chrono::milliseconds(0));
  ASSERT_TRUE(lock);
  const PruneOutcome outcome = PruneTo(1, kept);
  EXPECT_TRUE(outcome.removed.empty());
  ASSERT_EQ(outcome.in_use.size(), 1u);
  EXPECT_EQ(outcome.in_use[0].path, written);
}

TEST_F(PruneTest, AnythingElseInTheFolderStays) {
  Make("a.pla", 10);
  for (const char* name : {"pythons", "notes.txt", "b.pla.note", "pla"}) {
    WriteAll(folder_ / name, std::string(50'000, 'x'));
  }
  EXPECT_EQ(PruneTo(1).removed.size(), 1u);
  EXPECT_EQ(NamesIn(folder_.path()).size(), 4u);
}

TEST_F(PruneTest, AFileThatCannotBeRemovedIsToldAsKept) {
  Make("a.pla", 10);
  FaultyFileEnv env;
  env.FailAll("Unlink");
  const auto outcome = Prune(env, folder_.path(), 1, "");
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->in_use.size(), 1u);
  EXPECT_EQ(outcome->bytes_after, outcome->bytes_before);
  FaultyFileEnv blind;
  blind.FailAll("ListFolder");
  EXPECT_FALSE(Prune(blind, folder_.path(), 1, ""));
}

TEST_F(PruneTest, SealingPrunesOtherArchives) {
  const std::string old = Make("old.pla", 1000);
  SealJob job = MakeJob(folder_ / "new.pla", {MakeModule(folder_, "m", 1, 50'000)});
  job.max_bytes = 1;
  EXPECT_TRUE(SealOk(job).written);
  EXPECT_FALSE(std::filesystem::exists(old));
  EXPECT_TRUE(Has(folder_ / "new.pla", job.modules[0].path)) << "its own stays, however large";
}

}  // namespace
}  // namespace pylaunch::cache
