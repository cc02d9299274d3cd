#include "image/travel.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <vector>

#include "image/processor_words.h"

namespace pylaunch::image {
namespace {

constexpr const char* kOfHost[] = {
    kBoot, kKernel, kVdso, kProcessor, kOnlineProcessors, kAffinity, kEngineFile, kRestorerFile};

constexpr size_t kHostDigits = 16;

// Bits of features that no program has a use for, or that only the kernel may use, so that a
// processor (or a hypervisor) without them will do. All others count, those that nobody has heard
// of yet, too. Intel's Software Developer's Manual, volume 2A, CPUID; AMD's Architecture
// Programmer's Manual, volume 3, appendix E.
struct Features {
  ProcessorWord word;
  uint32_t of_no_use;
};
constexpr Features kFeatures[] = {
    // DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, CNXT-ID, SDBG, xTPR, PDCM, PCID, DCA, x2APIC,
    // TSC-deadline, hypervisor.
    {kLeaf1C, Bits({2, 3, 4, 5, 6, 7, 8, 10, 11, 14, 15, 17, 18, 21, 24, 31})},
    // VME, DE, PSE, MSR, PAE, MCE, APIC, MTRR, PGE, MCA, PAT, PSE-36, PSN, DS, ACPI, SS, HTT, TM,
    // PBE.
    {kLeaf1D, Bits({1, 2, 3, 5, 6, 7, 9, 12, 13, 14, 16, 17, 18, 21, 22, 27, 28, 29, 31})},
    // TSC_ADJUST, SGX, SMEP, INVPCID, RDT-M, RDT-A, SMAP, PT.
    {kLeaf7B, Bits({1, 2, 7, 10, 12, 15, 20, 25})},
    // UMIP, TME, LA57 (addresses above 2^47 only for who asks), SGX_LC.
    {kLeaf7C, Bits({2, 13, 16, 30})},
    // MD_CLEAR, TSX_FORCE_ABORT, hybrid, PCONFIG, LBR, IBRS, STIBP, L1D_FLUSH, ARCH_CAPABILITIES,
    // CORE_CAPABILITIES, SSBD.
    {kLeaf7D, Bits({10, 13, 15, 18, 19, 26, 27, 28, 29, 30, 31})},
    // SVM, extended APIC, OSVW, IBS, SKINIT, WDT, TCE, performance counters.
    {kExtendedC, Bits({2, 3, 9, 10, 12, 13, 17, 23, 24, 28})},
    // Those of leaf 1 that are the kernel's, NX, 1 GiB pages.
    {kExtendedD, Bits({1, 2, 3, 5, 6, 7, 9, 12, 13, 14, 16, 17, 20, 26})},
    {kLeaf7_1A, 0},
    {kLeaf7_1B, 0},
    {kLeaf7_1C, 0},
    {kLeaf7_1D, 0},
    // XSAVES.
    {kXsaveA, Bits({3})},
};

// Components of the extended state that the dynamic loader does not save when it binds a function
// late: PKRU and AMX's tiles (glibc's sysdeps/x86/cpu-features.h, STATE_SAVE_MASK). How much room
// it takes for the others, it has found out where the image was made; a restored process tells it
// anew, if preloading's dynamic loader was one that can be told (kExtendedState).
constexpr uint32_t kUnsavedState = Bits({9, 17, 18});

// The words of a fact that says by an order whether it will do.
std::string WhyNotProcessor(const std::string& made, const std::string& now, bool same_state) {
  const std::vector<uint32_t> had = ProcessorWords(made), has = ProcessorWords(now);
  if (had.empty() || has.empty()) return "processor changed";
  for (const ProcessorWord word : {kVendorB, kVendorC, kVendorD}) {
    if (had[word] != has[word]) return "processor is of another vendor";
  }
  for (const Features& features : kFeatures) {
    if ((had[features.word] & ~has[features.word] & ~features.of_no_use) != 0) {
      return "processor has less features";
    }
  }
  const uint32_t lost = had[kXcr0Low] & ~has[kXcr0Low], more = has[kXcr0Low] & ~had[kXcr0Low];
  const bool fits = lost == 0 && (!same_state || (more & ~kUnsavedState) == 0);
  return fits && had[kXcr0High] == has[kXcr0High] ? "" : "processor has another extended state";
}

// "6.1.0-28-amd64 #1 SMP ..." -> 6, 1, 0
std::array<long, 3> ReleaseOf(const std::string& kernel) {
  std::array<long, 3> numbers = {};
  const char* at = kernel.c_str();
  for (long& number : numbers) {
    char* end;
    number = std::strtol(at, &end, 10);
    if (end == at || *end != '.') break;
    at = end + 1;
  }
  return numbers;
}

std::string_view MachineOf(std::string_view kernel) {
  return kernel.substr(std::min(kernel.rfind(' '), kernel.size() - 1) + 1);
}

// What the C library and others have found the kernel to know, a newer one knows.
std::string WhyNotKernel(const std::string& made, const std::string& now) {
  if (made.empty() || now.empty() || MachineOf(made) != MachineOf(now)) return "kernel changed";
  return ReleaseOf(made) <= ReleaseOf(now) ? "" : "kernel is older";
}

// Of "0-3,8" (cpuset(7), List format), 5.
long CountIn(const std::string& list) {
  long count = 0;
  for (const char* at = list.c_str(); *at >= '0' && *at <= '9';) {
    char* end;
    const long first = std::strtol(at, &end, 10);
    long last = first;
    if (*end == '-') last = std::strtol(end + 1, &end, 10);
    count += last - first + 1;
    at = *end == ',' ? end + 1 : end;
  }
  return count;
}

bool HasAsked(const KeyHead& head, std::string_view question) {
  return std::find(head.asked.begin(), head.asked.end(), question) != head.asked.end();
}

}  // namespace

std::vector<uint32_t> ProcessorWords(const std::string& fact) {
  std::vector<uint32_t> words;
  for (const char* at = fact.c_str(); *at != '\0';) {
    char* end;
    words.push_back(static_cast<uint32_t>(std::strtoul(at, &end, 16)));
    if (end == at) return {};
    at = *end == ' ' ? end + 1 : end;
  }
  return words.size() == kProcessorWords ? words : std::vector<uint32_t>();
}

bool IsOfHost(std::string_view name) {
  return std::find(std::begin(kOfHost), std::end(kOfHost), name) != std::end(kOfHost);
}

bool IsOfRights(std::string_view name) {
  return name == kUser || name == kGroups || name == kCapabilities;
}

Facts WithoutTravelling(const Facts& facts, const KeyHead& head) {
  const bool asked = HasAsked(head, kUser);
  Facts rest;
  std::copy_if(facts.begin(), facts.end(), std::back_inserter(rest), [&](const Fact& fact) {
    if (!IsOfRights(fact.name)) return !IsOfHost(fact.name);
    return asked || (fact.name == kUser && !head.shared);
  });
  return rest;
}

std::string WhyNotHere(const KeyHead& made, const Facts& now) {
  const Facts& facts = made.facts;
  std::string why = WhyNotProcessor(ValueOf(facts, kProcessor), ValueOf(now, kProcessor),
                                    HasAsked(made, kExtendedState));
  if (why.empty()) why = WhyNotKernel(ValueOf(facts, kKernel), ValueOf(now, kKernel));
  if (!why.empty() || !HasAsked(made, kProcessors)) return why;
  // MKL makes as many threads as there are cores, so torch does.
  const std::vector<uint32_t> had = ProcessorWords(ValueOf(facts, kProcessor));
  if (had[kThreadsOfCore] != ProcessorWords(ValueOf(now, kProcessor))[kThreadsOfCore]) {
    return "number of threads of a core changed";
  }
  for (const char* processors : {kOnlineProcessors, kAffinity}) {
    if (CountIn(ValueOf(facts, processors)) != CountIn(ValueOf(now, processors))) {
      return std::string("number of ") + processors + " changed";
    }
  }
  return "";
}

bool IsOtherMachine(const Facts& made, const Facts& now) {
  return ValueOf(made, kProcessor) != ValueOf(now, kProcessor) ||
         ValueOf(made, kKernel) != ValueOf(now, kKernel);
}

std::string HostOf(const Facts& now) {
  std::string text;
  for (const char* name : kOfHost) text += ValueOf(now, name) + '\0';
  for (const char* name : {kUser, kGroups, kCapabilities}) text += ValueOf(now, name) + '\0';
  return Hashed(text).substr(0, kHostDigits);
}

}  // namespace pylaunch::image
