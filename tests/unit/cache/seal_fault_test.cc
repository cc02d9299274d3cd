#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <random>

#include "cache/archive_reader.h"
#include "cache/archive_writer.h"
#include "cache/seal.h"
#include "faulty_file_env.h"
#include "test_util.h"

namespace pylaunch::cache {
namespace {

// An archive that is there, and a job that adds to it, drops from it and keeps of it.
class ArchiveFault : public testing::Test {
 protected:
  void SetUp() override {
    kept_ = MakeModule(folder_, "kept", 1);
    const auto gone = MakeModule(folder_, "gone", 2);
    SealOk(MakeJob(archive_, {kept_, gone}, {MakeFolder(folder_, "f", {"x"})}));
    unlink(gone.path.c_str());
    old_bytes_ = ReadAll(archive_);
    added_ = MakeModule(folder_, "added", 3);
    job_ = MakeJob(archive_, {kept_, added_}, {MakeFolder(folder_, "g", {"y"})});
  }
  void Restore() {
    WriteAll(archive_, old_bytes_);
    for (const auto& name : TempFilesOf(archive_)) unlink((folder_ / name).c_str());
  }
  void ExpectOldArchive() {
    EXPECT_EQ(ReadAll(archive_), old_bytes_);
    EXPECT_EQ(CodeIn(archive_, kept_.path), CodeOf(1));
  }
  // Seals with every operation of this name failing.
  Result<SealOutcome> SealWithout(const char* operation) {
    FaultyFileEnv env;
    env.FailAll(operation);
    auto outcome = Seal(env, job_);
    EXPECT_GE(env.fired(), 1) << operation;
    return outcome;
  }

  TempFolder folder_;
  const std::string archive_ = folder_ / "a.pla";
  std::string old_bytes_;
  ModuleRecord kept_, added_;
  SealJob job_;
};

TEST_F(ArchiveFault, FailedRenameLeavesTheOldArchive) {
  const auto outcome = SealWithout("Rename");
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kIo);
  ExpectOldArchive();
  EXPECT_TRUE(TempFilesOf(archive_).empty());
}

TEST_F(ArchiveFault, FailedSyncLeavesTheOldArchive) {
  const auto outcome = SealWithout("Sync");
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kIo);
  ExpectOldArchive();
  EXPECT_TRUE(TempFilesOf(archive_).empty());
}

TEST_F(ArchiveFault, AFullDiskLeavesTheOldArchive) {
  for (const char* operation : {"Append", "WriteAt", "CreateTemp"}) {
    const auto outcome = SealWithout(operation);
    ASSERT_FALSE(outcome) << operation;
    EXPECT_EQ(outcome.error().code, ErrorCode::kIo);
    ExpectOldArchive();
    EXPECT_TRUE(TempFilesOf(archive_).empty());
  }
}

TEST_F(ArchiveFault, AFileSystemThatCannotSyncFoldersGetsItsArchive) {
  const auto outcome = SealWithout("SyncFolder");
  ASSERT_TRUE(outcome);
  EXPECT_EQ(CodeIn(archive_, added_.path), CodeOf(3));
}

TEST_F(ArchiveFault, AnErrorOfStatIsNoProofThatASourceIsGone) {
  const auto outcome = SealWithout("Stat");
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->dropped, 0u);
  EXPECT_EQ(CodeIn(archive_, kept_.path), CodeOf(1));
  EXPECT_EQ(CodeIn(archive_, added_.path), CodeOf(3));
}

TEST_F(ArchiveFault, AnArchiveThatCannotBeReadIsNotReplaced) {
  const auto outcome = SealWithout("Map");
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kIo);
  ExpectOldArchive();
}

// For every n: the n-th operation fails. Either Seal says so, and then nothing has changed, or the
// fault did not matter, and then the new archive is whole.
TEST_F(ArchiveFault, WhicheverOperationFailsOneWholeArchiveIsThere) {
  int failed = 0, n = 0;
  for (;; ++n) {
    Restore();
    FaultyFileEnv env;
    env.FailAt(n);
    const auto outcome = Seal(env, job_);
    if (env.fired() == 0) break;
    EXPECT_EQ(env.fired(), 1);
    if (outcome) {
      EXPECT_EQ(CodeIn(archive_, kept_.path), CodeOf(1)) << env.fired_names();
    } else {
      ++failed;
      EXPECT_EQ(outcome.error().code, ErrorCode::kIo);
      EXPECT_NE(outcome.error().message.find("injected fault"), std::string::npos);
      ExpectOldArchive();
    }
    EXPECT_TRUE(TempFilesOf(archive_).empty()) << env.fired_names();
  }
  EXPECT_GT(n, 15) << "operations that a Seal does";
  EXPECT_GE(failed, 9) << "MakeFolders, Lock, Map, CreateTemp, Append x4, WriteAt, Sync, Rename";
}

TEST_F(ArchiveFault, ADiskThatDiesForGoodLeavesTheOldArchive) {
  int n = 0;
  for (;; ++n) {
    Restore();
    FaultyFileEnv env;
    env.FailAt(n, /*and_later=*/true);
    const auto outcome = Seal(env, job_);
    if (env.fired() == 0) break;
    if (outcome) {
      EXPECT_EQ(CodeIn(archive_, kept_.path), CodeOf(1)) << env.fired_names();
    } else {
      ExpectOldArchive();
    }
  }
  EXPECT_GT(n, 15);
}

TEST_F(ArchiveFault, ARealFileSizeLimitLeavesTheOldArchive) {
  const pid_t pid = fork();
  if (pid == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {.rlim_cur = old_bytes_.size() / 2, .rlim_max = old_bytes_.size() / 2};
    setrlimit(RLIMIT_FSIZE, &limit);
    const auto outcome = Seal(PosixFileEnv(), job_);
    _exit(!outcome && outcome.error().code == ErrorCode::kIo ? 42 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(WEXITSTATUS(status), 42) << "the limit did not hit";
  ExpectOldArchive();
  EXPECT_TRUE(TempFilesOf(archive_).empty());
}

TEST_F(ArchiveFault, AHeldLockIsBusy) {
  auto lock = PosixFileEnv().Lock(archive_ + ".lock", std::chrono::milliseconds(0));
  ASSERT_TRUE(lock);
  FaultyFileEnv env;
  env.WaitForLocksAtMost(std::chrono::milliseconds(50));
  const auto outcome = Seal(env, job_);
  EXPECT_EQ(env.lock_timeout(), std::chrono::seconds(10));
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kBusy);
  ExpectOldArchive();
  lock->reset();
  EXPECT_TRUE(Seal(PosixFileEnv(), job_));
}

TEST_F(ArchiveFault, AReadOnlyFolderIsAnErrorAndNoMore) {
  if (geteuid() == 0) {
    ASSERT_EQ(chown(folder_.path().c_str(), 0, 0), 0);
    ASSERT_EQ(chmod(folder_.path().c_str(), 0755), 0);
    ASSERT_EQ(seteuid(65534), 0);
  } else {
    ASSERT_EQ(chmod(folder_.path().c_str(), 0555), 0);
  }
  const auto outcome = Seal(PosixFileEnv(), job_);
  if (getuid() == 0) {
    ASSERT_EQ(seteuid(0), 0);
  }
  chmod(folder_.path().c_str(), 0755);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kIo);
  ExpectOldArchive();
}

TEST(ArchiveKill, KillAnywhereInSealLeavesAWholeArchive) {
  TempFolder folder;
  const std::string archive = folder / "a.pla";
  const auto first = MakeModule(folder, "first", 0);
  SealOk(MakeJob(archive, {first}));
  std::mt19937 random(20240601);
  int killed = 0, left_temps = 0, round = 0;
  for (; round < 60 || ((killed < 10 || left_temps == 0) && round < 400); ++round) {
    std::vector<ModuleRecord> modules;
    for (int i = 0; i < 12; ++i) {
      const int seed = 1 + round * 12 + i;
      modules.push_back(MakeModule(folder, "m" + std::to_string(seed), seed, 40'000));
    }
    const SealJob job = MakeJob(archive, modules);
    const pid_t pid = fork();
    if (pid == 0) {
      const auto outcome = Seal(PosixFileEnv(), job);
      _exit(outcome ? 0 : 1);
    }
    usleep(random() % 12'000);
    kill(pid, SIGKILL);
    int status = -1;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    const bool was_killed = WIFSIGNALED(status);
    killed += was_killed;
    if (!was_killed) {
      EXPECT_EQ(WEXITSTATUS(status), 0);
    }

    const auto reader = ArchiveReader::OpenAny(PosixFileEnv(), archive);
    ASSERT_TRUE(reader) << reader.error().message;
    EXPECT_EQ(CodeIn(archive, first.path), CodeOf(0));
    // All of a job, or none of it.
    int there = 0;
    for (const auto& module : modules) there += Has(archive, module.path);
    EXPECT_TRUE(there == 12 || (there == 0 && was_killed)) << there;
    left_temps += static_cast<int>(TempFilesOf(archive).size());
    for (const auto& name : TempFilesOf(archive)) Age(folder / name, 2 * 3600);
  }
  EXPECT_GE(killed, 10) << "of " << round;
  EXPECT_GE(left_temps, 1) << "no writer was killed while it wrote";
  // The lock died with its holders, and the next writer sweeps.
  SealOk(MakeJob(archive, {MakeModule(folder, "last", 99'999)}));
  EXPECT_TRUE(TempFilesOf(archive).empty());
}

TEST(ArchiveRace, EightProcessesSealingAtOnceLoseNothing) {
  TempFolder folder;
  const std::string archive = folder / "cache/a.pla";
  constexpr int kProcesses = 8, kEach = 20;
  std::vector<pid_t> children;
  std::vector<ModuleRecord> all;
  for (int p = 0; p < kProcesses; ++p) {
    for (int i = 0; i < kEach; ++i) {
      const int seed = p * kEach + i;
      all.push_back(MakeModule(folder, "m" + std::to_string(seed), seed));
    }
  }
  int gate[2];
  ASSERT_EQ(pipe(gate), 0);
  for (int p = 0; p < kProcesses; ++p) {
    const pid_t pid = fork();
    if (pid == 0) {
      close(gate[1]);
      char ignored;
      (void)!read(gate[0], &ignored, 1);  // Until all are there.
      const auto from = all.begin() + p * kEach;
      const auto outcome = Seal(PosixFileEnv(), MakeJob(archive, std::vector(from, from + kEach)));
      _exit(outcome && outcome->added == kEach ? 0 : 1);
    }
    children.push_back(pid);
  }
  close(gate[0]);
  close(gate[1]);
  for (const pid_t pid : children) {
    int status = -1;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
  }
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(CodeIn(archive, all[i].path), CodeOf(static_cast<int>(i)));
  }
  EXPECT_TRUE(TempFilesOf(archive).empty());
}

TEST(ArchiveRace, ReadersNeverSeeAHalfWrittenArchive) {
  TempFolder folder;
  const std::string archive = folder / "a.pla";
  const auto first = MakeModule(folder, "first", 0);
  SealOk(MakeJob(archive, {first}));
  const pid_t pid = fork();
  if (pid == 0) {
    bool ok = true;
    for (int i = 1; i <= 40; ++i) {
      const auto module = MakeModule(folder, "m" + std::to_string(i), i);
      ok = ok && Seal(PosixFileEnv(), MakeJob(archive, {module}));
    }
    _exit(ok ? 0 : 1);
  }
  int status = -1, reads = 0;
  uint32_t most = 0;
  while (waitpid(pid, &status, WNOHANG) == 0) {
    const auto reader = ArchiveReader::OpenAny(PosixFileEnv(), archive);
    ASSERT_TRUE(reader) << reader.error().message;
    EXPECT_GE((*reader)->module_count(), most);
    most = (*reader)->module_count();
    EXPECT_EQ(CodeIn(archive, first.path), CodeOf(0));
    ++reads;
  }
  EXPECT_EQ(status, 0);
  EXPECT_GT(reads, 10);
}

}  // namespace
}  // namespace pylaunch::cache
