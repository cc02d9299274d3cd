#include "image/facts.h"

#include <cpuid.h>
#include <elf.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#include "cache/descriptor.h"
#include "image/kernel_files.h"
#include "image/processor_words.h"
#define XXH_INLINE_ALL
#include "xxhash.h"

namespace pylaunch::image {
namespace {

// What pylaunch itself is told by them is not the program's.
constexpr std::string_view kOwn = "PYLAUNCH_";

// Set anew by shells, terminals, window systems and job starters; of no use to a library that is
// imported.
constexpr std::string_view kVolatile[] = {"_",
                                          "OLDPWD",
                                          "PWD",
                                          "SHLVL",
                                          "COLUMNS",
                                          "LINES",
                                          "WINDOWID",
                                          "SSH_TTY",
                                          "SSH_CLIENT",
                                          "SSH_AUTH_SOCK",
                                          "SSH_CONNECTION",
                                          "TERM_SESSION_ID",
                                          "STY",
                                          "TMUX",
                                          "TMUX_PANE",
                                          "XDG_SESSION_ID",
                                          "INVOCATION_ID",
                                          "JOURNAL_STREAM",
                                          "GPG_AGENT_INFO"};

// By the C library itself, and by CPython in ways that change what is read next: locale(7),
// tzset(3), ld.so(8), mallopt(3), glibc's tunables, resolv.conf(5), iconv(1), getopt(3),
// Doc/using/cmdline.rst.
constexpr std::string_view kReadUnseen[] = {
    "GCONV_PATH",     "GLIBC_TUNABLES",  "HOSTALIASES", "LANG",
    "LANGUAGE",       "LOCALDOMAIN",     "LOCPATH",     "NLSPATH",
    "OUTPUT_CHARSET", "POSIXLY_CORRECT", "RES_OPTIONS", "TZ",
    "TZDIR"};
constexpr std::string_view kPrefixesReadUnseen[] = {"LC_", "LD_", "MALLOC_", "PYTHON"};

constexpr uint64_t kSeed = 0x70796c61756e6368;

bool IsVolatile(std::string_view name) {
  return name.starts_with(kOwn) ||
         std::find(std::begin(kVolatile), std::end(kVolatile), name) != std::end(kVolatile);
}

template <typename Prefixes>
bool BeginsWithOneOf(const Prefixes& prefixes, std::string_view name) {
  return std::any_of(std::begin(prefixes), std::end(prefixes),
                     [name](std::string_view prefix) { return name.starts_with(prefix); });
}

bool IsReadUnseen(std::string_view name) {
  return std::find(std::begin(kReadUnseen), std::end(kReadUnseen), name) != std::end(kReadUnseen) ||
         std::any_of(std::begin(kPrefixesReadUnseen), std::end(kPrefixesReadUnseen),
                     [name](std::string_view prefix) { return name.starts_with(prefix); });
}

std::string ReadText(const char* path) {
  std::array<char, 4096> buffer;
  const cache::Descriptor file(open(path, O_RDONLY | O_CLOEXEC));
  const ssize_t n = read(file.get(), buffer.data(), buffer.size());
  return n > 0 ? std::string(buffer.data(), static_cast<size_t>(n)) : "";
}

// What no other boot has; empty: nothing is known. Where /proc/sys is masked, when the kernel
// started (proc(5), /proc/stat), which is the same until somebody sets the clock. One without a
// battery begins at the same time at each boot.
std::string Boot() {
  std::string id = ReadText("/proc/sys/kernel/random/boot_id");
  if (!id.empty()) return id;
  constexpr long kOldestClock = 1'000'000'000;
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(kBootTime)) continue;
    return std::atol(line.c_str() + kBootTime.size()) > kOldestClock ? line : "";
  }
  return "";
}

std::string Kernel() {
  utsname name;
  if (uname(&name) != 0) return "";
  return std::string(name.release) + " " + name.version + " " + name.machine;
}

std::string Vdso() {
  const auto base = getauxval(AT_SYSINFO_EHDR);
  if (base == 0) return "";
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(base);
  const uint64_t size = header->e_shoff + uint64_t{header->e_shnum} * header->e_shentsize;
  return Hashed({reinterpret_cast<const char*>(base), size});
}

// What libraries choose their code by; travel.cc reads it. EBX of leaf 1 holds the number of the
// processor that we happen to run on.
std::string Processor() {
  std::vector<uint32_t> words;
  const auto ask = [&words](unsigned leaf, unsigned subleaf) {
    unsigned a = 0, b = 0, c = 0, d = 0;
    __get_cpuid_count(leaf, subleaf, &a, &b, &c, &d);
    words.insert(words.end(), {a, leaf == 1 ? b & 0x0000ffffu : b, c, d});
  };
  for (unsigned leaf : {0u, 1u, 7u, 0xdu, 0x80000001u}) ask(leaf, 0);
  ask(7, 1);
  ask(0xd, 1);
  unsigned low = 0, high = 0;
  if ((words[4 + 2] & bit_OSXSAVE) != 0) asm("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  unsigned a = 0, threads = 0, c = 0, d = 0;  // The others tell which processor this is.
  __get_cpuid_count(0xb, 0, &a, &threads, &c, &d);
  words.insert(words.end(), {low, high, threads & 0xffffu});
  return ProcessorFact(words);
}

std::string Affinity() {
  constexpr int kMost = 8192;
  std::vector<char> mask(kMost / 8);
  auto* set = reinterpret_cast<cpu_set_t*>(mask.data());
  if (sched_getaffinity(0, mask.size(), set) != 0) return "";
  std::string list;
  for (int first = 0; first < kMost; ++first) {
    if (!CPU_ISSET_S(static_cast<size_t>(first), mask.size(), set)) continue;
    int last = first;
    while (last + 1 < kMost && CPU_ISSET_S(static_cast<size_t>(last) + 1, mask.size(), set)) ++last;
    if (!list.empty()) list += ',';
    list += std::to_string(first);
    if (last > first) list += '-' + std::to_string(last);
    first = last;
  }
  return list;
}

std::string OpenStreams() {
  std::string open;
  for (int fd = 0; fd < 3; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0) open += std::to_string(fd);
  }
  return open;
}

std::string StackLimit() {
  rlimit limit;
  return getrlimit(RLIMIT_STACK, &limit) == 0 ? std::to_string(limit.rlim_cur) : "";
}

// What a process with fewer rights could not have read itself must not come to it out of an image.
std::string Groups() {
  const int most = getgroups(0, nullptr);
  std::vector<gid_t> groups(static_cast<size_t>(std::max(most, 0)));
  if (getgroups(most, groups.data()) != most) return "";
  std::sort(groups.begin(), groups.end());
  std::string text = std::to_string(most) + ":";
  for (const gid_t group : groups) text += " " + std::to_string(group);
  return text;
}

// capget(2), which glibc does not declare; PR_CAPBSET_READ fails for what the kernel does not know.
std::string Capabilities() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  if (syscall(SYS_capget, &header, data) != 0) return "";
  std::string text;
  bool any = false;
  for (const auto& half : data) {
    any |= (half.effective | half.permitted | half.inheritable) != 0;
    text += std::to_string(half.effective) + "/" + std::to_string(half.permitted) + "/" +
            std::to_string(half.inheritable) + " ";
  }
  // It bounds what a program that is executed gets, and that is nothing where there is nothing.
  if (!any) return text;
  uint64_t bounding = 0;
  for (unsigned long capability = 0; capability < 64; ++capability) {
    const int may = prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
    if (may < 0) break;
    bounding |= static_cast<uint64_t>(may) << capability;
  }
  return text + std::to_string(bounding);
}

// The front end has one thread when it asks, and nothing else tells but all of /proc/self/status.
std::string Umask() {
  const mode_t mask = umask(0777);
  umask(mask);
  return std::to_string(mask);
}

}  // namespace

std::string ProcessorFact(const std::vector<uint32_t>& words) {
  std::string text;
  for (const uint32_t word : words) {
    std::array<char, 10> digits;
    std::snprintf(digits.data(), digits.size(), text.empty() ? "%x" : " %x", word);
    text += digits.data();
  }
  return text;
}

std::string TerminalFact(int stream) {
  return "whether stream " + std::to_string(stream) + " is a terminal";
}

std::string IgnoredFact(int signal) {
  // signal(7); above are those of real time.
  constexpr const char* kNames[] = {
      "HUP",  "INT",  "QUIT", "ILL",    "TRAP",   "ABRT",  "BUS",  "FPE",  "KILL", "USR1", "SEGV",
      "USR2", "PIPE", "ALRM", "TERM",   "STKFLT", "CHLD",  "CONT", "STOP", "TSTP", "TTIN", "TTOU",
      "URG",  "XCPU", "XFSZ", "VTALRM", "PROF",   "WINCH", "IO",   "PWR",  "SYS"};
  const auto index = static_cast<size_t>(signal) - 1;
  const bool named = index < std::size(kNames);
  return (named ? std::string("whether SIG") + kNames[index]
                : "whether signal " + std::to_string(signal)) +
         " is ignored";
}

std::string Hashed(std::string_view value) {
  const XXH128_hash_t hash = XXH3_128bits_withSeed(value.data(), value.size(), kSeed);
  std::array<char, 33> text;
  std::snprintf(text.data(), text.size(), "%016llx%016llx",
                static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text.data();
}

const std::string& ValueOf(const Facts& facts, std::string_view name) {
  static const std::string none;
  const auto fact = std::find_if(facts.begin(), facts.end(),
                                 [&](const Fact& other) { return other.name == name; });
  return fact == facts.end() ? none : fact->value;
}

Facts MachineFacts() {
  return {{kBoot, Boot()},
          {kKernel, Kernel()},
          {kVdso, Vdso()},
          {kProcessor, Processor()},
          {kOnlineProcessors, ReadText("/sys/devices/system/cpu/online")},
          {kAffinity, Affinity()},
          {kUser, std::to_string(geteuid()) + ":" + std::to_string(getegid()) + ":" +
                      std::to_string(getuid()) + ":" + std::to_string(getgid())},
          {kGroups, Groups()},
          {kCapabilities, Capabilities()},
          {"umask", Umask()},
          {"personality", std::to_string(personality(0xffffffff))},
          {"open standard streams", OpenStreams()},
          {"stack limit", StackLimit()}};
}

Facts EnvironmentFacts(char** environment) {
  Facts facts;
  for (; *environment != nullptr; ++environment) {
    const std::string_view entry = *environment;
    const size_t equals = std::min(entry.find('='), entry.size());
    facts.push_back({std::string(kVariable).append(entry.substr(0, equals)), Hashed(entry)});
  }
  // The order is the starter's whim; the first of two settings counts, so these keep theirs.
  std::stable_sort(facts.begin(), facts.end(),
                   [](const Fact& a, const Fact& b) { return a.name < b.name; });
  return facts;
}

Facts Counting(const Facts& environment, const VariableReads& reads) {
  Facts counting;
  for (const Fact& fact : environment) {
    const std::string_view name = std::string_view(fact.name).substr(kVariable.size());
    if (IsReadUnseen(name) || (!reads.all.empty() && !IsVolatile(name)) ||
        std::binary_search(reads.names.begin(), reads.names.end(), name) ||
        BeginsWithOneOf(reads.prefixes, name)) {
      counting.push_back(fact);
    }
  }
  return counting;
}

Facts Asked(const Facts& askable, const std::vector<std::string>& names) {
  Facts asked;
  std::copy_if(askable.begin(), askable.end(), std::back_inserter(asked), [&](const Fact& fact) {
    return std::find(names.begin(), names.end(), fact.name) != names.end();
  });
  for (const std::string& name : names) {
    if (!name.starts_with(kKernelFile)) continue;
    if (auto fact = KernelFileFact(std::string_view(name).substr(kKernelFile.size()))) {
      asked.push_back(std::move(*fact));
    }
  }
  return asked;
}

std::string Difference(const Facts& made, const Facts& now) {
  for (const Fact& fact : now) {
    const auto old = std::find_if(made.begin(), made.end(),
                                  [&](const Fact& other) { return other.name == fact.name; });
    if (old == made.end()) return fact.name + " is new";
    if (old->value != fact.value) return fact.name + " changed";
  }
  for (const Fact& fact : made) {
    const bool gone = std::none_of(now.begin(), now.end(),
                                   [&](const Fact& other) { return other.name == fact.name; });
    if (gone) return fact.name + " is gone";
  }
  return "";
}

size_t CountMissing(const Facts& facts, const Facts& in) {
  return static_cast<size_t>(std::count_if(facts.begin(), facts.end(), [&in](const auto& fact) {
    return std::find(in.begin(), in.end(), fact) == in.end();
  }));
}

}  // namespace pylaunch::image
