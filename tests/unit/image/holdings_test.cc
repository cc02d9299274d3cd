#include "image/holdings.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "image/collection.h"

namespace pylaunch::image {
namespace {

namespace fs = std::filesystem;
using cache::Holding;
using cache::Standing;

constexpr int64_t kDay = 24 * 3600;

class HoldingsTest : public testing::Test {
 protected:
  HoldingsTest() {
    std::string name = testing::TempDir() + "holdings-XXXXXX";
    query_.cache_folder = folder_ = mkdtemp(name.data());
    fs::create_directory(folder_ + "/images");
  }
  ~HoldingsTest() override { fs::remove_all(folder_); }

  // A file that was changed so many seconds ago.
  std::string Make(const std::string& name, int64_t age, size_t size = 1) {
    const std::string path = folder_ + "/" + name;
    std::ofstream(path) << std::string(size, 'x');
    const timespec then = {cache::PosixFileEnv().NowNs() / 1'000'000'000 - age, 0};
    const timespec times[2] = {then, then};
    EXPECT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
    return path;
  }
  std::string MakeImage(const std::string& name, int64_t unused_for) {
    Make("images/" + name + ".key", unused_for);
    return Make("images/" + name + ".img", 1, 65'536);  // Its own age says nothing.
  }
  std::vector<Holding> Holdings() {
    auto holdings = HoldingsOf(cache::PosixFileEnv(), query_);
    EXPECT_TRUE(holdings);
    std::sort(holdings->begin(), holdings->end(),
              [](const Holding& a, const Holding& b) { return a.path < b.path; });
    return *holdings;
  }

  std::string folder_;
  HoldingsQuery query_;
};

TEST_F(HoldingsTest, AnImageWithItsKeyUsedWhenTheKeySaysSo) {
  const std::string image = MakeImage("a", 1000);
  query_.judge = [&](const std::string& path) {
    return path == image ? Standing::kStale : Standing::kUnknown;
  };
  const std::vector<Holding> holdings = Holdings();
  ASSERT_EQ(holdings.size(), 1u);
  EXPECT_EQ(holdings[0].path, image);
  EXPECT_GT(holdings[0].bytes, 65'536u);
  EXPECT_EQ(holdings[0].standing, Standing::kStale);
  EXPECT_EQ(holdings[0].companions[0], folder_ + "/images/a.key") << "first, as nobody starts then";
  EXPECT_FALSE(holdings[0].pinned);
  const int64_t age_ns = cache::PosixFileEnv().NowNs() - holdings[0].last_use_ns;
  EXPECT_NEAR(static_cast<double>(age_ns), 1000e9, 5e9);
}

TEST_F(HoldingsTest, NoFolderHoldsNothingAndNoFolderAtAllIsAnError) {
  fs::remove(folder_ + "/images");
  EXPECT_TRUE(Holdings().empty());
  Make("images", 0);
  EXPECT_FALSE(HoldingsOf(cache::PosixFileEnv(), query_));
  EXPECT_FALSE(PruneCache(cache::PosixFileEnv(), folder_, 1, "", /*thoroughly=*/true));
  EXPECT_TRUE(PruneCache(cache::PosixFileEnv(), folder_, 1, "", /*thoroughly=*/false));
}

TEST_F(HoldingsTest, OnANetworkImagesOfOtherHostsArePinnedForAMonth) {
  const std::string old = MakeImage("old", 31 * kDay), ours = MakeImage("ours", 100),
                    theirs = MakeImage("theirs", 1000);
  query_.judge = [&](const std::string& path) {
    return path == ours ? Standing::kAlive : Standing::kDead;
  };
  query_.on_network = true;
  const std::vector<Holding> holdings = Holdings();
  ASSERT_EQ(holdings.size(), 3u);
  EXPECT_FALSE(holdings[0].pinned) << holdings[0].path;
  EXPECT_FALSE(holdings[1].pinned) << holdings[1].path;
  EXPECT_TRUE(holdings[2].pinned) << holdings[2].path;
  query_.on_network = false;
  EXPECT_FALSE(Holdings()[2].pinned);
}

TEST_F(HoldingsTest, OnANetworkWhatAnotherHostHasAdoptedIsNotOursAlone) {
  MakeImage("ours", 100);
  query_.judge = [](const std::string&) { return Standing::kAlive; };
  query_.on_network = true;
  EXPECT_FALSE(Holdings()[0].pinned);
  Make("images/ours.adopted-0123456789abcdef", 100);
  EXPECT_TRUE(Holdings()[0].pinned);
  query_.on_network = false;
  EXPECT_FALSE(Holdings()[0].pinned);
}

TEST_F(HoldingsTest, AThousandHostsDoNotEvictEachOther) {
  for (int host = 0; host < 1000; ++host) MakeImage("theirs" + std::to_string(host), host);
  std::vector<std::string> ours;
  for (const int age : {100'000, 200'000, 300'000}) {
    ours.push_back(MakeImage("ours" + std::to_string(age), age));
  }
  const std::string archive = Make("a.pla", 400'000);
  query_.judge = [](const std::string& path) {
    return path.find("/ours") != path.npos ? Standing::kAlive : Standing::kDead;
  };
  query_.on_network = true;
  cache::PruneRequest request;
  request.folder = folder_;
  request.others = Holdings();
  ASSERT_EQ(request.others.size(), 1003u);
  request.max_others = 2;
  request.max_bytes = 1 << 20;
  const auto outcome = cache::Prune(cache::PosixFileEnv(), request);
  ASSERT_TRUE(outcome);
  ASSERT_EQ(outcome->removed.size(), 1u) << "this host has three, and may have two";
  EXPECT_EQ(outcome->removed[0].path, ours[2]);
  EXPECT_TRUE(fs::exists(archive)) << "theirs alone are more than the bound";
  EXPECT_TRUE(fs::exists(folder_ + "/images/theirs999.img"));
}

TEST_F(HoldingsTest, WhatKilledWritersLeft) {
  MakeImage("whole", 10);
  std::vector<std::string> old;
  for (const char* name :
       {"images/a.img.12-0123abcd.tmp", "images/a.key.tmp.0123456789abcdef", "images/half.img",
        "images/other.key", "images/why.late", "images/why.note"}) {
    old.push_back(Make(name, 12 * kDay));
  }
  for (const char* name : {"images/b.img.12-0123abcd.tmp", "images/b.note", "images/b.late"})
    Make(name, 1);
  for (const char* name : {"x.img", "note.note", "images/a.tmp"}) Make(name, 12 * kDay);
  std::vector<std::string> left;
  for (const Holding& holding : Holdings()) {
    if (holding.standing == Standing::kLeftover) left.push_back(holding.path);
  }
  EXPECT_EQ(left, old);
  const std::string young = Make("images/c.img", 1);
  const std::vector<Holding> holdings = Holdings();
  EXPECT_TRUE(std::any_of(holdings.begin(), holdings.end(), [&](const Holding& holding) {
    return holding.path == young && holding.standing == Standing::kUnknown;
  })) << "its key may come yet";
  const auto outcome = PruneCache(cache::PosixFileEnv(), folder_, 0, "", /*thoroughly=*/false);
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->leftovers.size(), old.size());
  for (const std::string& path : old) EXPECT_FALSE(fs::exists(path)) << path;
  EXPECT_TRUE(fs::exists(young) && fs::exists(folder_ + "/images/whole.img"));
}

}  // namespace
}  // namespace pylaunch::image
