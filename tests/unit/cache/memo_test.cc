#include "cache/memo.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <utility>

#include "cache/codec.h"
#include "faulty_file_env.h"
#include "test_util.h"

namespace pylaunch::cache {
namespace {

using std::chrono_literals::operator""s;

// A tree that was just made, seen by a clock that says it is old.
class MemoTest : public testing::Test {
 protected:
  MemoTest() {
    env_.SetClockAhead(60s);
    std::filesystem::create_directories(folder_ / "tree/sub/__pycache__");
    WriteAll(folder_ / "tree/a.py", "a");
    WriteAll(folder_ / "tree/sub/b.py", "b");
    WriteAll(folder_ / "tree/sub/__pycache__/b.pyc", "c");
  }
  std::vector<Dependency> Prove() {
    auto proofs = ProveTree(env_, folder_ / "tree", "__pycache__", 100);
    EXPECT_TRUE(proofs);
    return proofs.value_or(std::vector<Dependency>{});
  }
  ModuleRecord Record(std::string result) {
    const std::string content = Memo{Prove(), std::move(result)}.Serialize();
    auto frame = Compress(content, 1);
    EXPECT_TRUE(frame);
    return {.path = std::string(kMemoPrefix) + "m:f(x)",
            .stamp = {},
            .read_at_ns = env_.NowNs(),
            .pyc_path = "",
            .frame = std::move(*frame),
            .raw_size = static_cast<uint32_t>(content.size())};
  }
  std::string Kept(const std::string& archive) {
    if (!Has(archive, "memo:m:f(x)")) return "";
    auto memo = Memo::Parse(CodeIn(archive, "memo:m:f(x)"));
    return memo ? memo->result : "no memo";
  }

  TempFolder folder_;
  FaultyFileEnv env_;
};

TEST_F(MemoTest, ProvesEveryFileAndFolderButTheSkipped) {
  std::vector<std::string> paths;
  for (const Dependency& file : Prove()) paths.push_back(file.path);
  EXPECT_EQ(paths, (std::vector<std::string>{folder_ / "tree", folder_ / "tree/a.py",
                                             folder_ / "tree/sub", folder_ / "tree/sub/b.py"}));
}

TEST_F(MemoTest, HoldsUntilAnyOfThemChanges) {
  const auto proofs = Prove();
  EXPECT_TRUE(StillHolds(env_, proofs));
  WriteAll(folder_ / "tree/sub/__pycache__/b.pyc", "skipped");
  EXPECT_TRUE(StillHolds(env_, proofs));
  WriteAll(folder_ / "tree/sub/b.py", "changed");
  EXPECT_FALSE(StillHolds(env_, proofs));
}

TEST_F(MemoTest, HoldsNoMoreWhenAFileComesOrGoes) {
  const auto before = Prove();
  WriteAll(folder_ / "tree/sub/new.txt", "");
  EXPECT_FALSE(StillHolds(env_, before));
  const auto between = Prove();
  unlink((folder_ / "tree/a.py").c_str());
  EXPECT_FALSE(StillHolds(env_, between));
}

TEST_F(MemoTest, ATreeThatJustChangedProvesNothing) {
  env_.SetClockAhead(0s);
  EXPECT_FALSE(ProveTree(env_, folder_ / "tree", "", 100));
}

TEST_F(MemoTest, ATreeTooLargeOrUnreadableProvesNothing) {
  EXPECT_FALSE(ProveTree(env_, folder_ / "tree", "", 3));
  EXPECT_FALSE(ProveTree(env_, folder_ / "absent", "", 100));
  std::filesystem::create_directory_symlink(folder_ / "tree", folder_ / "tree/loop");
  EXPECT_FALSE(ProveTree(env_, folder_ / "tree", "", 100));
}

TEST_F(MemoTest, NoCutIsParsed) {
  const std::string bytes = Memo{Prove(), "result"}.Serialize();
  EXPECT_EQ(Memo::Parse(bytes)->result, "result");
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(Memo::Parse(std::string_view(bytes).substr(0, size))) << size;
  }
}

TEST_F(MemoTest, IsKeptAsLongAsItHolds) {
  const std::string archive = folder_ / "c/a.pla";
  ASSERT_TRUE(Seal(env_, MakeJob(archive, {Record("one")})));
  EXPECT_EQ(Kept(archive), "one");
  ASSERT_TRUE(Seal(env_, MakeJob(archive, {MakeModule(folder_, "other", 1)})));
  EXPECT_EQ(Kept(archive), "one");
  WriteAll(folder_ / "tree/a.py", "changed");
  ASSERT_TRUE(Seal(env_, MakeJob(archive, {MakeModule(folder_, "third", 1)})));
  EXPECT_EQ(Kept(archive), "");
}

TEST_F(MemoTest, ANewResultReplacesTheOldAndAStaleOneIsRefused) {
  const std::string archive = folder_ / "c/a.pla";
  ASSERT_TRUE(Seal(env_, MakeJob(archive, {Record("one")})));
  ModuleRecord stale = Record("stale");
  WriteAll(folder_ / "tree/a.py", "changed");
  ASSERT_TRUE(Seal(env_, MakeJob(archive, {Record("two")})));
  EXPECT_EQ(Kept(archive), "two");
  ASSERT_TRUE(Seal(env_, MakeJob(archive, {std::move(stale)})));
  EXPECT_EQ(Kept(archive), "two");
}

}  // namespace
}  // namespace pylaunch::cache
