#include "launcher/engine/environment/environment_reads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

namespace pylaunch::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(EnvironmentReads, NothingIsReadAtFirst) {
  EnvironmentReads reads;
  EXPECT_TRUE(reads.empty());
  EXPECT_FALSE(reads.enumerated());
  EXPECT_EQ(reads.Last("HOME"), nullptr);
  EXPECT_THAT(reads.Entries("HOME"), IsEmpty());
  EXPECT_THAT(reads.All(), IsEmpty());
}

TEST(EnvironmentReads, LastValueAndAllEntriesAreKept) {
  EnvironmentReads reads;
  reads.Add("A", nullptr, 2);
  reads.Add("A", "one", 0);
  reads.Add("A", "one", 0);
  reads.Add("B", "", 1);
  EXPECT_FALSE(reads.empty());
  EXPECT_TRUE(reads.Last("A")->Saw("one"));
  EXPECT_FALSE(reads.Last("A")->Saw("two") || reads.Last("A")->Saw(nullptr));
  EXPECT_TRUE(reads.Last("B")->Saw(""));
  EXPECT_FALSE(reads.Last("B")->Saw(nullptr));
  EXPECT_THAT(reads.Entries("A"), ElementsAre(0, 2));
  reads.Add("A", nullptr, 3);
  EXPECT_TRUE(reads.Last("A")->Saw(nullptr));
  EXPECT_FALSE(reads.Last("A")->Saw(""));
}

TEST(EnvironmentReads, AllIsSortedAndHasEachNameOnceWithItsLastValue) {
  EnvironmentReads reads;
  for (int i = 999; i >= 0; --i) {
    const std::string name = "N" + std::to_string(1000 + i);
    reads.Add(name, "old", 0);
    reads.Add(name, name.c_str(), 1);
  }
  const std::vector<EnvironmentRead> all = reads.All();
  ASSERT_EQ(all.size(), 1000u);
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i].name, "N" + std::to_string(1000 + i));
    EXPECT_TRUE(all[i].Saw(all[i].name.c_str()));
    EXPECT_EQ(all[i].entry, 1u);
  }
}

TEST(EnvironmentReads, ThreadsThatAddAtOnceLoseNothing) {
  EnvironmentReads reads;
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 8; ++t) {
    threads.emplace_back([&reads, t] {
      for (int i = 0; i < 2000; ++i) {
        const std::string name = "N" + std::to_string(i % 500);
        reads.Add(name, "v", t);
        ASSERT_NE(reads.Last(name), nullptr);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(reads.All().size(), 500u);
  for (int i = 0; i < 500; ++i) {
    EXPECT_THAT(reads.Entries("N" + std::to_string(i)), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  }
}

}  // namespace
}  // namespace pylaunch::engine
