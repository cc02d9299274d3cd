#include "image/baseline.h"

#include <gtest/gtest.h>

#include <vector>

#include "image/facts.h"
#include "image/processor_words.h"
#include "image/travel.h"

namespace pylaunch::image {
namespace {

// One of AMD's with AVX-512 and more: what EPYC 9004 says in a virtual machine.
std::vector<uint32_t> Genoa() {
  std::vector<uint32_t> words(kProcessorWords);
  words[kLeaf1C] = 0xfffa3203;
  words[kLeaf1D] = 0x178bfbff;
  words[kLeaf7B] = 0xf1bf07ab;
  words[kLeaf7C] = 0x00405fce;
  words[kLeaf7D] = 0x10000010;
  words[kExtendedC] = 0x004001f3;
  words[kExtendedD] = 0x2fd3fbff;
  words[kLeaf7_1A] = 0x20;
  words[kXsaveA] = 0xf;
  words[kXcr0Low] = 0x2e7;
  return words;
}

std::string Why(const std::string& made, const std::vector<uint32_t>& now) {
  KeyHead head;
  head.facts = MachineFacts();
  Facts here = head.facts;
  for (Fact& fact : head.facts) {
    if (fact.name == kProcessor) fact.value = made;
  }
  for (Fact& fact : here) {
    if (fact.name == kProcessor) fact.value = ProcessorFact(now);
  }
  return WhyNotHere(head, here);
}

// And one without, of before.
std::vector<uint32_t> Rome() {
  std::vector<uint32_t> words = Genoa();
  words[kLeaf7B] &= ~Bits({16, 17, 21, 28, 30, 31});
  words[kLeaf7C] &= Bits({2, 22});  // UMIP, RDPID
  words[kLeaf7D] = 0;
  words[kLeaf7_1A] = 0;
  words[kXcr0Low] = 0x207;
  return words;
}

TEST(BaselineTest, LevelsHaveNames) {
  EXPECT_EQ(ParseCpuLevel("x86-64-v3"), CpuLevel::kV3);
  EXPECT_EQ(ParseCpuLevel("x86-64"), std::nullopt);
  EXPECT_EQ(ParseCpuLevel("x86-64-v5"), std::nullopt);
}

TEST(BaselineTest, AnImageOfALevelIsForProcessorsThatHaveLess) {
  const std::string own = ProcessorFact(Genoa());
  EXPECT_EQ(Why(own, Rome()), "processor has less features");
  EXPECT_EQ(Why(Baseline(own, CpuLevel::kV3), Rome()), "");
  EXPECT_EQ(Why(Baseline(own, CpuLevel::kV4), Rome()), "processor has less features");
  EXPECT_EQ(Why(Baseline(own, CpuLevel::kV4), Genoa()), "");
}

TEST(BaselineTest, AProcessorBelowTheLevelMakesNone) {
  const std::string rome = ProcessorFact(Rome());
  EXPECT_NE(Baseline(rome, CpuLevel::kV3), "");
  EXPECT_EQ(Baseline(rome, CpuLevel::kV4), "");
  std::vector<uint32_t> without = Genoa();
  without[kXcr0Low] = 0x7;  // The kernel does not allow the registers.
  EXPECT_EQ(Baseline(ProcessorFact(without), CpuLevel::kV4), "");
  EXPECT_EQ(Baseline("", CpuLevel::kV2), "");
}

TEST(BaselineTest, EachDemandOfALevelIsADemandOfTheImages) {
  const std::string v3 = Baseline(ProcessorFact(Genoa()), CpuLevel::kV3);
  // FMA, MOVBE, AVX, F16C, BMI1, AVX2, BMI2, LZCNT.
  const std::pair<ProcessorWord, int> bits[] = {{kLeaf1C, 12}, {kLeaf1C, 22},  {kLeaf1C, 28},
                                                {kLeaf1C, 29}, {kLeaf7B, 3},   {kLeaf7B, 5},
                                                {kLeaf7B, 8},  {kExtendedC, 5}};
  for (const auto& [word, bit] : bits) {
    std::vector<uint32_t> less = Rome();
    less[word] &= ~Bits({bit});
    EXPECT_EQ(Why(v3, less), "processor has less features") << word << " " << bit;
    EXPECT_EQ(Baseline(ProcessorFact(less), CpuLevel::kV3), "") << word << " " << bit;
  }
}

// What cpuid is made to say is what the image then demands, and no more.
TEST(BaselineTest, CpuidSaysWhatTheFactSays) {
  const std::vector<uint32_t> words = Genoa();
  const std::vector<uint32_t> fact = ProcessorWords(Baseline(ProcessorFact(words), CpuLevel::kV3));
  const struct {
    uint32_t leaf, subleaf;
    size_t first;
  } leaves[] = {{1, 0, 4}, {7, 0, 8}, {0x80000001, 0, 16}, {7, 1, 20}, {0xd, 1, 24}};
  for (const auto& [leaf, subleaf, first] : leaves) {
    uint32_t registers[4];
    std::copy_n(&words[first], 4, registers);
    MaskCpuid(CpuLevel::kV3, leaf, subleaf, registers);
    for (const ProcessorWord word : {kLeaf1C, kLeaf1D, kLeaf7B, kLeaf7C, kLeaf7D, kExtendedC,
                                     kExtendedD, kLeaf7_1A, kXsaveA}) {
      if (word < first || word >= first + 4) continue;
      EXPECT_EQ(registers[word - first], fact[word]) << word;
    }
  }
  uint32_t tiles[4] = {1, 2, 3, 4};
  MaskCpuid(CpuLevel::kV4, 0x1d, 1, tiles);
  EXPECT_EQ(tiles[0] | tiles[1] | tiles[2] | tiles[3], 0u);
}

}  // namespace
}  // namespace pylaunch::image
