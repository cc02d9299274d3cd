#ifndef PYLAUNCH_IMAGE_PROCESSOR_WORDS_H_
#define PYLAUNCH_IMAGE_PROCESSOR_WORDS_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace pylaunch::image {

// Where the words stand that the fact kProcessor consists of (facts.cc): four of each leaf, then
// XCR0, then how many threads a core has (leaf 0xb; 0: it does not tell).
enum ProcessorWord : size_t {
  kVendorB = 1,
  kVendorC = 2,
  kVendorD = 3,
  kLeaf1C = 6,
  kLeaf1D = 7,
  kLeaf7B = 9,
  kLeaf7C = 10,
  kLeaf7D = 11,
  kExtendedC = 18,
  kExtendedD = 19,
  kLeaf7_1A = 20,
  kLeaf7_1B = 21,
  kLeaf7_1C = 22,
  kLeaf7_1D = 23,
  kXsaveA = 24,  // Of leaf 0xd, subleaf 1.
  kXcr0Low = 28,
  kXcr0High = 29,
  kThreadsOfCore = 30,
  kProcessorWords = 31
};

// None: it is no such fact.
std::vector<uint32_t> ProcessorWords(const std::string& fact);
std::string ProcessorFact(const std::vector<uint32_t>& words);

constexpr uint32_t Bits(std::initializer_list<int> bits) {
  uint32_t mask = 0;
  for (const int bit : bits) mask |= uint32_t{1} << bit;
  return mask;
}

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_PROCESSOR_WORDS_H_
