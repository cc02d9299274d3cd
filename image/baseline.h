#ifndef PYLAUNCH_IMAGE_BASELINE_H_
#define PYLAUNCH_IMAGE_BASELINE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

// Processors as the x86-64 psABI has them in levels ("Micro-Architecture Levels"), for an image
// that is to hold for all processors of one level (--image-build --cpu): who makes it uses no more
// than that.

namespace pylaunch::image {

// The values are sent (launcher/contract/handoff.h).
enum class CpuLevel : uint8_t { kOwn = 0, kV2 = 2, kV3 = 3, kV4 = 4 };

// Of "x86-64-v2" to "x86-64-v4"; nothing: of any other.
std::optional<CpuLevel> ParseCpuLevel(std::string_view text);

// The fact kProcessor (facts.h) of a processor that has what `processor` has and the level allows,
// which is little more than the level: AES, PCLMUL, from v3 on RDRAND, and from v4 on ADX and
// RDSEED. An empty string: that processor is of a lower level.
std::string Baseline(const std::string& processor, CpuLevel level);

// What such a processor answers to cpuid, of what this one answers: `registers` are EAX, EBX, ECX,
// EDX. Vendor, family, model and caches stay.
void MaskCpuid(CpuLevel level, uint32_t leaf, uint32_t subleaf, uint32_t registers[4]);

// Likewise to xgetbv: of the components of extended state those that it has.
uint64_t StateOf(CpuLevel level);

// What makes glibc, from 2.33 on, choose its functions as for such a processor, and save the
// extended state in a way that all of them know: a value of GLIBC_TUNABLES. Names that a version
// does not know, it passes over (sysdeps/x86/cpu-tunables.c).
std::string TunablesFor(CpuLevel level);
inline constexpr char kTunablesVariable[] = "GLIBC_TUNABLES";

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_BASELINE_H_
