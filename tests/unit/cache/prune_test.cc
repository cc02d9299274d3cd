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
  std::string Make(const std::string& name, int64_t unused_for,
                   const std::string& environment = "/") {
    const std::string path = folder_ / name;
    BuildKey key = TestKey();
    key.environment = environment;
    auto writer = ArchiveWriter::Create(PosixFileEnv(), path, key);
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
    PruneRequest request;
    request.folder = folder_.path();
    request.max_bytes = bytes;
    request.keep = keep;
    return PruneAs(request);
  }
  PruneOutcome PruneAs(const PruneRequest& request) {
    auto outcome = Prune(PosixFileEnv(), request);
    EXPECT_TRUE(outcome);
    return *outcome;
  }
  PruneRequest Bound(uint64_t bytes) {
    PruneRequest request;
    request.folder = folder_.path();
    request.max_bytes = bytes;
    return request;
  }
  // What others keep: 64 KiB with a companion, used so many seconds ago.
  Holding MakeOther(const std::string& name, int64_t unused_for) {
    std::filesystem::create_directory(folder_ / "others");
    Holding other;
    other.path = folder_ / "others/" + name;
    other.companions = {other.path + ".beside", other.path + ".never-there"};
    other.bytes = 65'536;
    other.last_use_ns = PosixFileEnv().NowNs() - unused_for * 1'000'000'000;
    WriteAll(other.path, "x");
    WriteAll(other.companions[0], "x");
    Touch(other.companions[0], other.last_use_ns);
    return other;
  }
  static void Touch(const std::string& path, int64_t ns) {
    const timespec time = {ns / 1'000'000'000, ns % 1'000'000'000};
    const timespec times[] = {time, time};
    ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
  }
  static bool Exists(const std::string& path) { return std::filesystem::exists(path); }

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
  PruneRequest request;
  request.folder = folder_ / "absent";
  request.max_bytes = 1;
  const auto outcome = Prune(PosixFileEnv(), request);
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
  const auto outcome = Prune(env, Bound(1));
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->in_use.size(), 1u);
  EXPECT_EQ(outcome->bytes_after, outcome->bytes_before);
  FaultyFileEnv blind;
  blind.FailAll("ListFolder");
  EXPECT_FALSE(Prune(blind, Bound(1)));
}

TEST_F(PruneTest, SealingPrunesOtherArchives) {
  const std::string old = Make("old.pla", 1000);
  SealJob job = MakeJob(folder_ / "new.pla", {MakeModule(folder_, "m", 1, 50'000)});
  job.max_bytes = 1;
  EXPECT_TRUE(SealOk(job).written);
  EXPECT_FALSE(std::filesystem::exists(old));
  EXPECT_TRUE(Has(folder_ / "new.pla", job.modules[0].path)) << "its own stays, however large";
}

TEST_F(PruneTest, WhatOthersKeepCountsAndGoesByItsLastUse) {
  const std::string archive = Make("a.pla", 9000);
  PruneRequest request = Bound(0);
  request.others = {MakeOther("young", 10), MakeOther("old", 8000)};
  const PruneOutcome all = PruneAs(request);
  EXPECT_EQ(all.bytes_before, Size(archive) + 2 * 65'536);
  request.max_bytes = all.bytes_before - 1;
  const PruneOutcome outcome = PruneAs(request);
  ASSERT_EQ(outcome.removed.size(), 1u);
  const Holding& old = request.others[1];
  EXPECT_EQ(outcome.removed[0].path, old.path) << "it yields to an archive of its time";
  EXPECT_EQ(outcome.bytes_after, all.bytes_before - 65'536);
  EXPECT_FALSE(Exists(old.path) || Exists(old.companions[0]));
  EXPECT_TRUE(Exists(archive) && Exists(request.others[0].path));
}

// The list may be older than what it tells of: the sealer's is.
TEST_F(PruneTest, WhatWasUsedOrWrittenSinceItWasListedStays) {
  PruneRequest request = Bound(1);
  request.others = {MakeOther("used", 1000), MakeOther("half", 1000)};
  request.others[1].standing = Standing::kLeftover;
  for (const Holding& other : request.others) Touch(other.companions[0], PosixFileEnv().NowNs());
  const PruneOutcome outcome = PruneAs(request);
  EXPECT_TRUE(outcome.removed.empty() && outcome.leftovers.empty());
  for (const Holding& other : request.others) {
    EXPECT_TRUE(Exists(other.path) && Exists(other.companions[0]));
  }
}

TEST_F(PruneTest, DeadOthersGoAndStaleOnesGoFirst) {
  Holding dead = MakeOther("dead", 1), stale = MakeOther("stale", 2),
          alive = MakeOther("alive", 1000);
  dead.standing = Standing::kDead;
  stale.standing = Standing::kStale;
  alive.standing = Standing::kAlive;
  PruneRequest request = Bound(0);
  request.others = {dead, stale, alive};
  PruneOutcome outcome = PruneAs(request);
  ASSERT_EQ(outcome.removed.size(), 1u) << "there is room";
  EXPECT_EQ(outcome.removed[0].path, dead.path);
  request.others = {stale, alive};
  request.max_others = 1;
  outcome = PruneAs(request);
  ASSERT_EQ(outcome.removed.size(), 1u);
  EXPECT_EQ(outcome.removed[0].path, stale.path);
  request.others = {alive};
  request.max_bytes = 1;
  request.keep = alive.path;
  EXPECT_TRUE(PruneAs(request).removed.empty());
}

TEST_F(PruneTest, WhatIsPinnedStaysAndIsTold) {
  PruneRequest request = Bound(1);
  request.others = {MakeOther("theirs", 1000), MakeOther("ours", 100)};
  request.others[0].pinned = true;
  request.others[0].standing = Standing::kDead;
  const PruneOutcome outcome = PruneAs(request);
  ASSERT_EQ(outcome.removed.size(), 1u);
  EXPECT_EQ(outcome.removed[0].path, request.others[1].path);
  ASSERT_EQ(outcome.in_use.size(), 1u);
  EXPECT_TRUE(Exists(request.others[0].path) && Exists(request.others[0].companions[0]));
}

TEST_F(PruneTest, ArchivesOfAnEnvironmentThatIsGoneGoFirst) {
  const std::string gone = Make("gone.pla", 1, "/no/such\nfolder\\"), there = Make("a.pla", 1000);
  EXPECT_TRUE(PruneTo(0).removed.empty());
  const PruneOutcome outcome = PruneTo(Size(there));
  ASSERT_EQ(outcome.removed.size(), 1u);
  EXPECT_EQ(outcome.removed[0].path, gone);
  Make("gone.pla", 1, "/no/such");
  PruneRequest request = Bound(0);
  request.all_dead = true;
  EXPECT_EQ(PruneAs(request).removed.size(), 1u);
  EXPECT_TRUE(Exists(there));
}

TEST_F(PruneTest, WhatKilledWritersLeftGoes) {
  const std::string old = folder_ / "a.pla.tmp.0123456789abcdef",
                    young = folder_ / "b.pla.tmp.0123456789abcdef", foreign = folder_ / "mine.tmp";
  for (const std::string& path : {old, young, foreign}) WriteAll(path, "x");
  for (const std::string& path : {old, foreign}) Use(path, 1'000'000);
  PruneRequest request = Bound(0);
  request.others = {MakeOther("half", 10)};
  request.others[0].standing = Standing::kLeftover;
  const PruneOutcome outcome = PruneAs(request);
  EXPECT_EQ(outcome.leftovers, (std::vector<std::string>{old, request.others[0].path}));
  EXPECT_EQ(outcome.bytes_before, 0u);
  EXPECT_FALSE(Exists(old) || Exists(request.others[0].path));
  EXPECT_TRUE(Exists(young) && Exists(foreign));
}

TEST_F(PruneTest, TheSealerPrunesWhatItsJobSaysThatOthersKeep) {
  SealJob job = MakeJob(folder_ / "new.pla", {MakeModule(folder_, "m", 1, 50'000)});
  job.max_bytes = 1;
  job.others = {MakeOther("old", 1000), MakeOther("theirs", 1000)};
  job.others[1].pinned = true;
  const auto carried = SealJob::Parse(job.Serialize());
  ASSERT_TRUE(carried);
  EXPECT_TRUE(SealOk(*carried).written);
  EXPECT_FALSE(Exists(job.others[0].path) || Exists(job.others[0].companions[0]));
  EXPECT_TRUE(Exists(job.others[1].path));
}

}  // namespace
}  // namespace pylaunch::cache
