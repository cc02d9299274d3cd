#include "cache/transfer.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "cache/archive.h"
#include "cache/archive_reader.h"
#include "faulty_file_env.h"
#include "test_util.h"

namespace pylaunch::cache {
namespace {

class TransferTest : public testing::Test {
 protected:
  // An archive of `count` modules with sources of this test's.
  std::vector<std::string> Fill(const std::string& archive, int first, int count) {
    std::vector<std::string> paths;
    std::vector<ModuleRecord> modules;
    for (int i = first; i < first + count; ++i) {
      modules.push_back(MakeModule(folder_, "m" + std::to_string(i), i));
      paths.push_back(modules.back().path);
    }
    EXPECT_TRUE(SealOk(MakeJob(archive, std::move(modules))).written);
    return paths;
  }
  Result<TransferOutcome> Put(const std::string& archive) {
    return Import(PosixFileEnv(), file_, TestKey(), archive, /*replace=*/false);
  }
  TransferOutcome Take(const std::string& archive) {
    auto outcome = Export(PosixFileEnv(), archive, TestKey(), file_);
    EXPECT_TRUE(outcome) << outcome.error().message;
    return outcome.value_or(TransferOutcome());
  }

  TempFolder folder_;
  const std::string from_ = folder_ / "from.pla", to_ = folder_ / "new/to.pla",
                    file_ = folder_ / "exported";
};

TEST_F(TransferTest, GoesThereAndBack) {
  const auto paths = Fill(from_, 0, 5);
  const TransferOutcome taken = Take(from_);
  EXPECT_EQ(taken.modules, 5u);
  EXPECT_EQ(taken.bytes, std::filesystem::file_size(file_));
  struct stat st;
  ASSERT_EQ(stat(file_.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  const auto put = Put(to_);
  ASSERT_TRUE(put) << put.error().message;
  EXPECT_EQ(put->modules, 5u);
  for (const std::string& path : paths) EXPECT_EQ(CodeIn(to_, path), CodeIn(from_, path));
  EXPECT_EQ(NamesIn(folder_ / "new").size(), 2u) << "the archive and its lock";
}

TEST_F(TransferTest, AdditionsGoWithTheArchiveAndWin) {
  const auto paths = Fill(from_, 0, 2);
  std::filesystem::rename(from_, DeltaPath(from_));
  Fill(folder_ / "other.pla", 1, 2);  // m1 again, and m2.
  std::filesystem::rename(folder_ / "other.pla", from_);
  EXPECT_EQ(Take(from_).modules, 3u);
}

TEST_F(TransferTest, OwnEntriesThatHoldStay) {
  const auto paths = Fill(from_, 0, 3);
  Take(from_);
  std::filesystem::create_directory(folder_ / "new");
  // The same path of another state, which is the disk's; and one that the file does not have.
  Age(paths[0], 1000);
  ModuleRecord own = MakeModule(folder_, "m0", 77);
  EXPECT_TRUE(SealOk(MakeJob(to_, {own, MakeModule(folder_, "own", 78)})).written);
  const auto put = Put(to_);
  ASSERT_TRUE(put);
  EXPECT_EQ(put->kept, 2u);
  EXPECT_EQ(put->modules, 2u);
  EXPECT_EQ(CodeIn(to_, paths[0]), CodeOf(77));
  EXPECT_TRUE(Has(to_, paths[1]) && Has(to_, folder_ / "own.py"));
  ASSERT_TRUE(Import(PosixFileEnv(), file_, TestKey(), to_, /*replace=*/true));
  EXPECT_FALSE(Has(to_, folder_ / "own.py"));
}

TEST_F(TransferTest, OneDamagedByteAnywhereChangesNothing) {
  Fill(from_, 0, 3);
  Take(from_);
  const std::string whole = ReadAll(file_);
  int refused = 0;
  for (size_t at = 0; at < whole.size(); at += 7) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    WriteAll(file_, damaged);
    const auto put = Put(to_);
    if (put) continue;  // Padding.
    ++refused;
    EXPECT_NE(put.error().code, ErrorCode::kIo) << at;
    EXPECT_FALSE(std::filesystem::exists(to_)) << at;
  }
  EXPECT_GT(refused, static_cast<int>(whole.size() / 7 * 9 / 10));
  for (const size_t size : {size_t{0}, size_t{100}, whole.size() - 1}) {
    WriteAll(file_, whole.substr(0, size));
    const auto put = Put(to_);
    ASSERT_FALSE(put) << size;
    EXPECT_EQ(put.error().code, ErrorCode::kCorrupt);
  }
}

TEST_F(TransferTest, ForeignUntrustedAndAbsentFilesAreRefused) {
  EXPECT_EQ(Put(to_).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(Export(PosixFileEnv(), from_, TestKey(), file_).error().code, ErrorCode::kNotFound);
  Fill(from_, 0, 1);
  Take(from_);
  BuildKey other = TestKey();
  other.environment = "/elsewhere";
  const auto foreign = Import(PosixFileEnv(), file_, other, to_, false);
  EXPECT_EQ(foreign.error().code, ErrorCode::kForeign);
  EXPECT_NE(foreign.error().message.find("/elsewhere"), std::string::npos);
  ASSERT_EQ(chmod(file_.c_str(), 0620), 0);
  EXPECT_EQ(Put(to_).error().code, ErrorCode::kUntrusted);
  ASSERT_EQ(chmod(file_.c_str(), 0600), 0);
  std::filesystem::create_symlink(file_, folder_ / "link");
  EXPECT_EQ(Import(PosixFileEnv(), folder_ / "link", TestKey(), to_, false).error().code,
            ErrorCode::kUntrusted);
  EXPECT_FALSE(std::filesystem::exists(to_));
}

TEST_F(TransferTest, WhateverFailsTheOldFilesStay) {
  const auto paths = Fill(from_, 0, 2);
  Take(from_);
  std::filesystem::create_directory(folder_ / "new");
  std::filesystem::copy_file(from_, to_);
  const std::string exported = ReadAll(file_), archive = ReadAll(to_);
  bool put = false, taken = false;
  int fired = 0;
  for (int n = 0; n < 200 && !(put && taken); ++n) {
    FaultyFileEnv env;
    env.FailAt(n, /*and_later=*/true);
    put = Import(env, file_, TestKey(), to_, false).has_value();
    fired += env.fired() > 0;
    EXPECT_TRUE(put || ReadAll(to_) == archive) << n;
    env.FailAt(n, /*and_later=*/true);
    taken = Export(env, from_, TestKey(), file_).has_value();
    EXPECT_TRUE(taken || ReadAll(file_) == exported) << n;
  }
  EXPECT_TRUE(put && taken);
  EXPECT_GT(fired, 5);
}

}  // namespace
}  // namespace pylaunch::cache
