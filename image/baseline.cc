#include "image/baseline.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "image/processor_words.h"

namespace pylaunch::image {
namespace {

// One word of features: what a level demands, and what it allows besides. What no program has a use
// for (travel.cc) may stay.
struct Allowed {
  ProcessorWord word;
  uint32_t leaf;
  uint32_t subleaf;
  size_t reg;            // Of EAX, EBX, ECX, EDX.
  uint32_t demanded[3];  // By v2, and what v3 and v4 add.
  uint32_t besides[3];
};
constexpr uint32_t kAll = ~uint32_t{0};
constexpr Allowed kAllowed[] = {
    // SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT | FMA, MOVBE, OSXSAVE, AVX, F16C. Besides:
    // PCLMUL, AES, XSAVE, OSXSAVE, hypervisor | RDRAND.
    {kLeaf1C,
     1,
     0,
     2,
     {Bits({0, 9, 13, 19, 20, 23}), Bits({12, 22, 27, 28, 29}), 0},
     {Bits({1, 25, 26, 27, 31}), Bits({30}), 0}},
    {kLeaf1D, 1, 0, 3, {0, 0, 0}, {kAll, 0, 0}},
    // BMI1, AVX2, BMI2 | AVX512F, DQ, CD, BW, VL. Besides: FSGSBASE, which the kernel tells, too
    // (getauxval(3), AT_HWCAP2) | RDSEED, ADX.
    {kLeaf7B,
     7,
     0,
     1,
     {0, Bits({3, 5, 8}), Bits({16, 17, 28, 30, 31})},
     {Bits({0}), 0, Bits({18, 19})}},
    {kLeaf7C, 7, 0, 2, {0, 0, 0}, {0, 0, 0}},
    {kLeaf7D, 7, 0, 3, {0, 0, 0}, {0, 0, 0}},
    {kLeaf7_1A, 7, 1, 0, {0, 0, 0}, {0, 0, 0}},
    {kLeaf7_1B, 7, 1, 1, {0, 0, 0}, {0, 0, 0}},
    {kLeaf7_1C, 7, 1, 2, {0, 0, 0}, {0, 0, 0}},
    {kLeaf7_1D, 7, 1, 3, {0, 0, 0}, {0, 0, 0}},
    // LAHF | LZCNT.
    {kExtendedC, 0x80000001, 0, 2, {Bits({0}), Bits({5}), 0}, {0, 0, 0}},
    // FPU, TSC, CMPXCHG8B, SYSCALL, CMOV, MMX, FXSR, RDTSCP, long mode.
    {kExtendedD, 0x80000001, 0, 3, {0, 0, 0}, {Bits({0, 4, 8, 11, 15, 23, 24, 27, 29}), 0, 0}},
    // XSAVEOPT, XSAVEC and what else there is besides XSAVE.
    {kXsaveA, 0xd, 1, 0, {0, 0, 0}, {0, 0, 0}},
};

uint32_t Sum(const uint32_t (&of)[3], CpuLevel level) {
  uint32_t sum = of[0];
  if (level >= CpuLevel::kV3) sum |= of[1];
  if (level >= CpuLevel::kV4) sum |= of[2];
  return sum;
}

// Leaves that tell of features no level has: of AMX, AVX10, Key Locker, processor trace.
constexpr uint32_t kEmptyLeaves[] = {0x14, 0x19, 0x1d, 0x1e, 0x23, 0x24, 0x29};

}  // namespace

std::optional<CpuLevel> ParseCpuLevel(std::string_view text) {
  if (text == "x86-64-v2") return CpuLevel::kV2;
  if (text == "x86-64-v3") return CpuLevel::kV3;
  if (text == "x86-64-v4") return CpuLevel::kV4;
  return std::nullopt;
}

uint64_t StateOf(CpuLevel level) {
  // x87, SSE; AVX; masks and both parts of AVX-512's registers.
  if (level == CpuLevel::kV2) return 0x3;
  return level == CpuLevel::kV3 ? 0x7 : 0xe7;
}

std::string Baseline(const std::string& processor, CpuLevel level) {
  std::vector<uint32_t> words = ProcessorWords(processor);
  if (words.empty()) return "";
  for (const Allowed& allowed : kAllowed) {
    const uint32_t demanded = Sum(allowed.demanded, level);
    uint32_t& word = words[allowed.word];
    if ((word & demanded) != demanded) return "";
    word &= demanded | Sum(allowed.besides, level);
  }
  const auto state = static_cast<uint32_t>(StateOf(level));
  if (level >= CpuLevel::kV3 && (words[kXcr0Low] & state) != state) return "";
  words[kXcr0Low] &= state;
  words[kXcr0High] = 0;
  return ProcessorFact(words);
}

void MaskCpuid(CpuLevel level, uint32_t leaf, uint32_t subleaf, uint32_t registers[4]) {
  const bool unknown =
      (leaf == 7 && subleaf > 1) ||
      (leaf == 0xd && subleaf > 1 && (subleaf > 63 || (StateOf(level) >> subleaf & 1) == 0));
  if (unknown ||
      std::find(std::begin(kEmptyLeaves), std::end(kEmptyLeaves), leaf) != std::end(kEmptyLeaves)) {
    std::fill_n(registers, 4, 0);
  }
  for (const Allowed& allowed : kAllowed) {
    if (allowed.leaf != leaf || allowed.subleaf != subleaf) continue;
    registers[allowed.reg] &= Sum(allowed.demanded, level) | Sum(allowed.besides, level);
  }
  if (leaf == 0xd && subleaf == 0) {
    registers[0] &= static_cast<uint32_t>(StateOf(level));
    registers[3] = 0;
  }
  // CLZERO, RDPRU, WBNOINVD and other extensions of AMD's.
  if (leaf == 0x80000008) registers[1] = 0;
  if (leaf == 0x80000021) registers[0] = 0;
}

std::string TunablesFor(CpuLevel level) {
  // RTM chooses functions that end in xtest; XSAVEC, how a function that is bound late is called.
  std::string text = "glibc.cpu.hwcaps=-XSAVEC,-RTM,-FMA4,-AVX512ER,-AVX512PF";
  if (level < CpuLevel::kV4) text += ",-AVX512F,-AVX512CD,-AVX512BW,-AVX512DQ,-AVX512VL";
  if (level < CpuLevel::kV3) {
    text += ",-AVX2,-FMA,-BMI1,-BMI2,-LZCNT,-MOVBE,-AVX_Fast_Unaligned_Load,-AVX";
  }
  return text;
}

}  // namespace pylaunch::image
