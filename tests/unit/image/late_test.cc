#include "image/late.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace pylaunch::image {
namespace {

namespace fs = std::filesystem;

class LateTest : public testing::Test {
 protected:
  LateTest() {
    std::string name = testing::TempDir() + "late-XXXXXX";
    folder_ = mkdtemp(name.data());
    module_ = Write("polars.py", "x = 1");
    entries_ = {{2, "left a thread: a", {{module_, StateOf(module_)}}},
                {5, "changed the umask", {}}};
    path_ = Write("x.late", Serialize(entries_));
    chmod(path_.c_str(), 0600);
  }
  ~LateTest() override { fs::remove_all(folder_); }

  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name) << text;
    return folder_ + "/" + name;
  }
  std::vector<uint64_t> Read(size_t size = 6) {
    std::vector<uint64_t> indices;
    for (const LateEntry& entry : ReadLate(path_, size)) indices.push_back(entry.index);
    return indices;
  }

  std::string folder_, module_, path_;
  LateEntries entries_;
};

using Indices = std::vector<uint64_t>;

TEST_F(LateTest, ComesBackAsItWas) {
  const LateEntries read = ReadLate(path_, 6);
  ASSERT_EQ(read.size(), 2u);
  EXPECT_EQ(read[0].index, 2u);
  EXPECT_EQ(read[0].left, "left a thread: a");
  ASSERT_EQ(read[0].files.size(), 1u);
  EXPECT_EQ(read[0].files[0].state, StateOf(module_));
  EXPECT_TRUE(IsLate(read, 5));
  EXPECT_FALSE(IsLate(read, 0));
}

TEST_F(LateTest, EveryFlippedBitAndEveryTruncationIsNoticed) {
  const std::string good = Serialize(entries_);
  ASSERT_TRUE(ParseLate(good));
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 4);
    EXPECT_FALSE(ParseLate(bad)) << i;
    EXPECT_FALSE(ParseLate(good.substr(0, i))) << i;
  }
}

TEST_F(LateTest, AnEntryWhoseFilesHaveChangedIsTriedAgain) {
  Write("polars.py", "x = 22");
  EXPECT_EQ(Read(), Indices{5});
  fs::remove(module_);
  EXPECT_EQ(Read(), Indices{5});
}

TEST_F(LateTest, IndicesBeyondThePlanAreLeftOut) {
  EXPECT_EQ(Read(5), Indices{2});
  EXPECT_EQ(Read(0), Indices{});
}

TEST_F(LateTest, WhatOthersCouldHaveWrittenOrIsNoFileSaysNothing) {
  EXPECT_EQ(Read(), (Indices{2, 5}));
  chmod(path_.c_str(), 0620);
  EXPECT_EQ(Read(), Indices{});
  chmod(path_.c_str(), 0600);
  const std::string real = path_ + ".real";
  fs::rename(path_, real);
  EXPECT_EQ(Read(), Indices{});
  fs::create_symlink(real, path_);
  EXPECT_EQ(Read(), Indices{});
  fs::remove(path_);
  fs::create_directory(path_);
  EXPECT_EQ(Read(), Indices{});
}

TEST_F(LateTest, MergedInTheOrderOfThePlan) {
  const LateEntries all = Merge(entries_, {{3, "left a child process", {}}, {0, "b", {}}});
  Indices indices;
  for (const LateEntry& entry : all) indices.push_back(entry.index);
  EXPECT_EQ(indices, (Indices{0, 2, 3, 5}));
}

}  // namespace
}  // namespace pylaunch::image
