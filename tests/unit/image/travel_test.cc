#include "image/travel.h"

#include <gtest/gtest.h>

#include <sstream>
#include <utility>
#include <vector>

#include "image/processor_words.h"

namespace pylaunch::image {
namespace {

Facts With(Facts facts, const std::string& name, const std::string& value) {
  for (Fact& fact : facts) {
    if (fact.name == name) fact.value = value;
  }
  return facts;
}

// A processor that is otherwise in one word (image/facts.cc, Processor).
std::string OtherProcessor(const std::string& processor, size_t word, uint32_t flip) {
  std::istringstream in(processor);
  std::ostringstream out;
  uint32_t value;
  for (size_t i = 0; in >> std::hex >> value; ++i) {
    out << (i == 0 ? "" : " ") << std::hex << (i == word ? value ^ flip : value);
  }
  return out.str();
}

class TravelTest : public testing::Test {
 protected:
  const Facts here_ = MachineFacts();
  std::string Why(const std::string& name, const std::string& made, const std::string& now) {
    KeyHead head;
    head.facts = With(here_, name, made);
    head.asked = {kProcessors, kExtendedState};
    return WhyNotHere(head, With(here_, name, now));
  }
};

TEST_F(TravelTest, FromHereToHere) { EXPECT_EQ(Why(kBoot, "1", "1"), ""); }

TEST_F(TravelTest, AnotherBootIsNoReason) { EXPECT_EQ(Why(kBoot, "1", "2"), ""); }

TEST_F(TravelTest, FactsOfAHostAreKnownByName) {
  for (const char* name : {kBoot, kKernel, kVdso, kProcessor, kOnlineProcessors, kAffinity,
                           kEngineFile, kRestorerFile}) {
    EXPECT_TRUE(IsOfHost(name)) << name;
  }
  for (const char* name : {kPython, kPreloadPlan, kEngine, "user", "umask", "variable PATH"}) {
    EXPECT_FALSE(IsOfHost(name)) << name;
  }
}

TEST_F(TravelTest, WhatMayBeOtherwiseDependsOnWhatWasAsked) {
  const auto has = [&](const KeyHead& head, const char* name) {
    return !ValueOf(WithoutTravelling(here_, head), name).empty();
  };
  KeyHead head;
  EXPECT_FALSE(has(head, kBoot) || has(head, kProcessor) || has(head, kCapabilities));
  EXPECT_TRUE(has(head, "umask") && has(head, kUser)) << "it is its maker's";
  head.shared = true;
  EXPECT_FALSE(has(head, kUser));
  head.asked = {kUser};
  EXPECT_TRUE(has(head, kUser) && has(head, kCapabilities) && has(head, kGroups));
  EXPECT_FALSE(has(head, kBoot));
}

TEST_F(TravelTest, AHostHasAnotherNameWhereAnyOfItsFactsIsAnother) {
  EXPECT_EQ(HostOf(here_), HostOf(With(here_, "umask", "1")));
  EXPECT_NE(HostOf(here_), HostOf(With(here_, kBoot, "another")));
  EXPECT_NE(HostOf(here_), HostOf(With(here_, kAffinity, "another")));
  EXPECT_NE(HostOf(here_), HostOf(With(here_, kUser, "another"))) << "each has a note of its own";
  EXPECT_EQ(HostOf(here_).size(), 16u);
}

TEST_F(TravelTest, AKernelMayBeNewerAndNotOlder) {
  const std::string old = "6.1.0-28-amd64 #1 SMP Debian x86_64";
  for (const char* newer : {"6.1.0-30-amd64 #1 x86_64", "6.1.1 #1 x86_64",
                            "6.12.117+deb13 x x86_64", "7.0-rc1 x x86_64"}) {
    EXPECT_EQ(Why(kKernel, old, newer), "") << newer;
  }
  for (const char* older : {"6.0.9 #1 x86_64", "5.15.200-generic #1 x86_64", "6.0-rc1 x x86_64"}) {
    EXPECT_EQ(Why(kKernel, old, older), "kernel is older") << older;
  }
  EXPECT_EQ(Why(kKernel, old, "6.1.0-28-amd64 #1 aarch64"), "kernel changed");
  EXPECT_EQ(Why(kKernel, old, ""), "kernel changed");
}

TEST_F(TravelTest, AsManyProcessorsWhicheverTheyAre) {
  EXPECT_EQ(Why(kAffinity, "0-3,8", "1-4,127"), "");
  EXPECT_EQ(Why(kAffinity, "0-3", "0-2"), "number of processor affinity changed");
  EXPECT_EQ(Why(kOnlineProcessors, "0-7\n", "0-3,16-19\n"), "");
  EXPECT_EQ(Why(kOnlineProcessors, "0\n", "0-1\n"), "number of online processors changed");
}

TEST_F(TravelTest, TheirNumberIsNobodysBusinessWhereNobodyAsked) {
  KeyHead head;
  head.facts = With(here_, kAffinity, "0-63");
  EXPECT_EQ(WhyNotHere(head, With(here_, kAffinity, "0")), "");
  head.asked = {kProcessors};
  EXPECT_NE(WhyNotHere(head, With(here_, kAffinity, "0")), "");
}

TEST_F(TravelTest, AsManyCoresIfSomebodyCounted) {
  const std::string here = ValueOf(here_, kProcessor);
  const std::string other = OtherProcessor(here, kThreadsOfCore, 3);
  EXPECT_EQ(Why(kProcessor, here, other), "number of threads of a core changed");
  KeyHead head;
  head.facts = With(here_, kProcessor, other);
  EXPECT_EQ(WhyNotHere(head, here_), "");
}

TEST_F(TravelTest, AProcessorMustHaveAllThatTheImagesHad) {
  const std::string less = ValueOf(here_, kProcessor);
  // SSE4.2, AVX2, and what nobody has heard of.
  const struct {
    size_t word;
    uint32_t bit;
  } features[] = {{6, 1u << 20}, {9, 1u << 5}, {20, 1u << 31}, {23, 1u << 31}};
  for (const auto& [word, bit] : features) {
    const std::string other = OtherProcessor(less, word, bit);
    const bool more = Why(kProcessor, less, other).empty();
    EXPECT_EQ(Why(kProcessor, more ? other : less, more ? less : other),
              "processor has less features")
        << word;
    EXPECT_EQ(Why(kProcessor, more ? less : other, more ? other : less), "") << word;
  }
}

TEST_F(TravelTest, WhatOnlyTheKernelHasAUseForDoesNotCount) {
  const std::string here = ValueOf(here_, kProcessor);
  for (const auto& [word, bit] : std::vector<std::pair<size_t, int>>{
           {6, 31}, {6, 5}, {9, 20}, {11, 10}, {4, 3}, {5, 8}, {19, 1}}) {
    const std::string other = OtherProcessor(here, word, 1u << bit);
    EXPECT_EQ(Why(kProcessor, here, other), "") << word << " " << bit;
    EXPECT_EQ(Why(kProcessor, other, here), "") << word << " " << bit;
  }
}

TEST_F(TravelTest, MoreExtendedStateWillDoWhereTheLoaderCanBeTold) {
  const std::string here = ValueOf(here_, kProcessor);
  const std::string other = OtherProcessor(here, 28, 1u << 5);  // XCR0: opmask.
  const bool more = ProcessorWords(other)[kXcr0Low] > ProcessorWords(here)[kXcr0Low];
  const auto& [less, most] = more ? std::pair(here, other) : std::pair(other, here);
  KeyHead head;
  head.facts = With(here_, kProcessor, less);
  EXPECT_EQ(WhyNotHere(head, With(here_, kProcessor, most)), "");
  head.facts = With(here_, kProcessor, most);
  EXPECT_EQ(WhyNotHere(head, With(here_, kProcessor, less)),
            "processor has another extended state");
}

TEST_F(TravelTest, ElseTheExtendedStateThatTheLoaderSavesMustBeTheSame) {
  const std::string here = ValueOf(here_, kProcessor);
  const std::string avx = OtherProcessor(here, 28, 1u << 5);  // XCR0: opmask.
  EXPECT_EQ(Why(kProcessor, here, avx), "processor has another extended state");
  EXPECT_EQ(Why(kProcessor, avx, here), "processor has another extended state");
  // Tiles: more will do.
  const std::string tiles = OtherProcessor(here, 28, 1u << 18);
  EXPECT_NE(Why(kProcessor, here, tiles).empty(), Why(kProcessor, tiles, here).empty());
}

TEST_F(TravelTest, AnotherVendorOrNoneAtAll) {
  const std::string here = ValueOf(here_, kProcessor);
  EXPECT_EQ(Why(kProcessor, here, OtherProcessor(here, 1, 1)), "processor is of another vendor");
  for (const char* none : {"", "x", "1 2 3"}) {
    EXPECT_EQ(Why(kProcessor, here, none), "processor changed") << none;
    EXPECT_EQ(Why(kProcessor, none, here), "processor changed") << none;
  }
}

}  // namespace
}  // namespace pylaunch::image
