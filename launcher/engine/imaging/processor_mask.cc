#include "launcher/engine/imaging/processor_mask.h"

#include <cpuid.h>
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <vector>

#include "launcher/engine/imaging/executable_ranges.h"
#include "launcher/engine/imaging/function_bounds.h"
#include "launcher/engine/imaging/instruction_length.h"
#include "launcher/engine/libc/libc_calls.h"

namespace pylaunch::engine {
namespace {

constexpr size_t kMost = 15;  // Bytes of an instruction.
constexpr uint8_t kTrap = 0xcc;
constexpr uint8_t kCpuid[] = {0x0f, 0xa2};
constexpr uint8_t kXgetbv[] = {0x0f, 0x01, 0xd0};
constexpr uint8_t kRet[] = {0xc3};
constexpr uint8_t kEndbr[] = {0xf3, 0x0f, 0x1e, 0xfa};

struct Patch {
  uint8_t* at;
  uint8_t first;  // The byte that was there.
  uint8_t length;
  int protection;     // Of its page.
  const void* owner;  // The object's program headers.
};

// What has been looked through, by its program headers: they are part of it.
struct {
  std::atomic_flag busy = ATOMIC_FLAG_INIT;
  bool on = false;
  image::CpuLevel level = image::CpuLevel::kOwn;
  uint8_t* loaded = nullptr;  // _dl_debug_state.
  std::vector<Patch>* patches = nullptr;
  std::vector<const void*>* objects = nullptr;
  std::string* refusal = nullptr;
  struct sigaction before = {};
} g;

class Lock {
 public:
  Lock() {
    while (g.busy.test_and_set(std::memory_order_acquire)) {
    }
  }
  ~Lock() { g.busy.clear(std::memory_order_release); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
};

void Refuse(const std::string& why) {
  if (g.refusal->empty()) *g.refusal = why;
}

bool Write(uint8_t* at, uint8_t byte, int protection) {
  const auto page_size = static_cast<uintptr_t>(getpagesize());
  void* page = reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(at) & ~(page_size - 1));
  if (mprotect(page, page_size, protection | PROT_WRITE) != 0) return false;
  *static_cast<volatile uint8_t*>(at) = byte;
  return mprotect(page, page_size, protection) == 0;
}

void PutTrap(uint8_t* at, size_t length, int protection, const void* owner,
             const std::string& name) {
  const Patch patch = {at, *at, static_cast<uint8_t>(length), protection, owner};
  g.patches->push_back(patch);
  if (!Write(at, kTrap, protection)) Refuse(name + " cannot be changed in memory");
}

// One loaded object.
class Object {
 public:
  explicit Object(const dl_phdr_info& info) : info_(info) {
    name_ = info.dlpi_name == nullptr || *info.dlpi_name == '\0' ? "Python" : info.dlpi_name;
  }

  // The C library is told by its tunables; the kernel's part asks nobody.
  bool IsExempt() const {
    const std::string_view base = std::string_view(name_).substr(name_.rfind('/') + 1);
    for (const std::string_view of_libc :
         {"ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6", "libmvec.so.1", "libpthread.so.0",
          "libdl.so.2", "librt.so.1", "libutil.so.1", "linux-vdso.so.1"}) {
      if (base == of_libc) return true;
    }
    const auto* first = reinterpret_cast<const char*>(&info_.dlpi_phdr[0]);
    return IsOurs(first);
  }
  bool IsPython() const { return name_ == "Python" || name_.find("/libpython3.") != name_.npos; }

  // `early`: it was there before; constructors of it may have asked.
  void PutTraps(bool early) const {
    for (const ExecutableRange& range : ExecutableRanges(info_)) {
      const std::vector<Question> questions = QuestionsIn(range);
      for (const Question& question : questions) {
        const std::optional<bool> whole = IsInstruction(range, questions, question);
        if (!whole) Refuse(name_ + " may ask what the processor can at " + Offset(question.at));
        if (!whole.value_or(false)) continue;
        if (early && !IsPython()) {
          Refuse(name_ + " was loaded before what the processor can was hidden");
        }
        if (!early && IsRelocated()) {
          Refuse("this C library tells too late that " + name_ + " is loaded");
        }
        PutTrap(question.at, question.length, range.protection, info_.dlpi_phdr, name_);
      }
    }
  }

 private:
  // Bytes that may be one of the two instructions.
  struct Question {
    uint8_t* at;
    size_t length;
    bool within;  // A function that is known.
    FunctionBounds function;
    bool is_xgetbv() const { return length == sizeof kXgetbv; }
  };

  std::vector<Question> QuestionsIn(const ExecutableRange& range) const {
    std::vector<Question> questions;
    for (uint8_t* at = range.begin; at < range.end; ++at) {
      at = static_cast<uint8_t*>(std::memchr(at, kCpuid[0], static_cast<size_t>(range.end - at)));
      if (at == nullptr) break;
      const size_t length = LengthOfQuestion(at, range.end);
      if (length == 0) continue;
      const std::optional<FunctionBounds> function = FunctionAt(info_, at);
      questions.push_back({at, length, function.has_value(), function.value_or(FunctionBounds())});
    }
    return questions;
  }

  std::string Offset(const uint8_t* at) const {
    char text[24];
    std::snprintf(text, sizeof text, "0x%lx",
                  static_cast<unsigned long>(reinterpret_cast<uintptr_t>(at) - info_.dlpi_addr));
    return text;
  }

  static size_t LengthOfQuestion(const uint8_t* at, const uint8_t* end) {
    const auto left = static_cast<size_t>(end - at);
    if (left >= sizeof kCpuid && std::memcmp(at, kCpuid, sizeof kCpuid) == 0) return sizeof kCpuid;
    const bool second = left >= sizeof kXgetbv && std::memcmp(at, kXgetbv, sizeof kXgetbv) == 0;
    return second ? sizeof kXgetbv : 0;
  }

  // Nothing: nobody can tell.
  static std::optional<bool> IsInstruction(const ExecutableRange& range,
                                           const std::vector<Question>& all,
                                           const Question& question) {
    if (question.within) return IsReached(question.function.begin, question);
    // Written by hand, or tables among code. Who asks for more than SSE needs both instructions,
    // and three bytes are rarely one by chance.
    constexpr ptrdiff_t kNear = 1024;
    const bool asks = std::any_of(all.begin(), all.end(), [&question](const Question& other) {
      return !other.within && other.is_xgetbv() && std::abs(other.at - question.at) < kNear;
    });
    if (!asks) return false;
    if (!question.is_xgetbv() && question.at - range.begin > 9 && SetsLeaf(question.at))
      return true;
    const std::optional<bool> reached = IsReachedFromMost(range, question);
    if (!question.is_xgetbv() || !reached.value_or(false)) return reached;
    return SetsEcx(question.at) ? reached : std::nullopt;
  }

  static std::optional<bool> IsReached(const uint8_t* from, const Question& question) {
    for (const uint8_t* next = from; next < question.at;) {
      const size_t step =
          *next == kTrap ? LengthReplaced(next) : InstructionLength(next, question.at + kMost);
      if (step == 0) return std::nullopt;
      next += step;
      if (next > question.at) return false;
    }
    return true;
  }

  // Whoever begins to decode in the midst of an instruction soon finds the next ones.
  static std::optional<bool> IsReachedFromMost(const ExecutableRange& range,
                                               const Question& question) {
    constexpr ptrdiff_t kFarthest = 48, kNearest = 8;
    size_t reached = 0, missed = 0;
    for (ptrdiff_t back = kNearest; back < kFarthest && question.at - range.begin >= back; ++back) {
      const std::optional<bool> found = IsReached(question.at - back, question);
      if (found) ++(*found ? reached : missed);
    }
    if (reached > 7 * missed) return true;
    if (missed > 7 * reached) return false;
    return std::nullopt;
  }

  // Whether what stands before gives EAX the number of a leaf, by xor or mov, and perhaps ECX 0.
  static bool SetsLeaf(const uint8_t* at) {
    if (at[-2] == 0x31 && at[-1] == 0xc9) at -= 2;
    if ((at[-2] == 0x31 || at[-2] == 0x33) && at[-1] == 0xc0) return true;
    const bool to_eax = at[-5] == 0xb8 || (at[-7] == 0x48 && at[-6] == 0xc7 && at[-5] == 0xc0);
    constexpr uint8_t kLast = 0x40;
    return to_eax && at[-4] < kLast && at[-3] == 0 && at[-2] == 0 && (at[-1] & 0x7f) == 0;
  }

  // Whether what stands before says which register is asked for: xor, or mov from another.
  static bool SetsEcx(const uint8_t* at) {
    const bool zero = (at[-2] == 0x31 || at[-2] == 0x33) && at[-1] == 0xc9;
    return zero || (at[-2] == 0x89 && (at[-1] & 0xc7) == 0xc1);
  }

  // Of one that has been replaced, or of int3 itself.
  static size_t LengthReplaced(const uint8_t* at) {
    for (const Patch& patch : *g.patches) {
      if (patch.at == at) return patch.length;
    }
    return 1;
  }

  // Whether its first pointer that is to be relocated has been.
  bool IsRelocated() const {
    const ElfW(Addr) base = info_.dlpi_addr;
    const ElfW(Dyn)* dynamic = nullptr;
    for (size_t i = 0; i < info_.dlpi_phnum; ++i) {
      if (info_.dlpi_phdr[i].p_type == PT_DYNAMIC) {
        dynamic = reinterpret_cast<const ElfW(Dyn)*>(base + info_.dlpi_phdr[i].p_vaddr);
      }
    }
    for (; dynamic != nullptr && dynamic->d_tag != DT_NULL; ++dynamic) {
      if (dynamic->d_tag != DT_RELA) continue;
      // The dynamic loader has made an address of it, or not yet.
      const ElfW(Addr) table = dynamic->d_un.d_ptr;
      const auto* first = reinterpret_cast<const ElfW(Rela)*>(table < base ? base + table : table);
      if (ELF64_R_TYPE(first->r_info) != R_X86_64_RELATIVE) return false;
      const auto value = *reinterpret_cast<const ElfW(Addr)*>(base + first->r_offset);
      return base != 0 && value == base + static_cast<ElfW(Addr)>(first->r_addend);
    }
    return false;
  }

  const dl_phdr_info& info_;
  std::string name_;
};

// Looks through what is new, and forgets what is gone. Under the lock.
void Refresh(bool early) {
  std::vector<const void*> now;
  struct Visit {
    std::vector<const void*>* now;
    bool early;
  } visit = {&now, early};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        auto* visit = static_cast<Visit*>(data);
        visit->now->push_back(info->dlpi_phdr);
        const bool known =
            std::find(g.objects->begin(), g.objects->end(), info->dlpi_phdr) != g.objects->end();
        if (known) return 0;
        if (const Object object(*info); !object.IsExempt()) object.PutTraps(visit->early);
        return 0;
      },
      &visit);
  std::erase_if(*g.patches, [&now](const Patch& patch) {
    return patch.owner != nullptr && std::find(now.begin(), now.end(), patch.owner) == now.end();
  });
  *g.objects = std::move(now);
}

void Answer(gregset_t& registers, size_t length) {
  const auto leaf = static_cast<uint32_t>(registers[REG_RAX]);
  const auto subleaf = static_cast<uint32_t>(registers[REG_RCX]);
  if (length == sizeof kXgetbv) {
    uint32_t low, high;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(subleaf));
    registers[REG_RAX] = static_cast<greg_t>(low & image::StateOf(g.level));
    registers[REG_RDX] = 0;
    return;
  }
  uint32_t words[4];
  __cpuid_count(leaf, subleaf, words[0], words[1], words[2], words[3]);
  image::MaskCpuid(g.level, leaf, subleaf, words);
  registers[REG_RAX] = words[0];
  registers[REG_RBX] = words[1];
  registers[REG_RCX] = words[2];
  registers[REG_RDX] = words[3];
}

// Does what the first instruction of _dl_debug_state would.
void LeaveLoaded(gregset_t& registers, size_t length) {
  if (length != sizeof kRet) {
    registers[REG_RIP] += static_cast<greg_t>(length) - 1;
    return;
  }
  auto* stack = reinterpret_cast<greg_t*>(registers[REG_RSP]);
  registers[REG_RIP] = *stack;
  registers[REG_RSP] += 8;
}

void OnTrap(int number, siginfo_t*, void* context) {
  const int error = errno;
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const auto* at = reinterpret_cast<const uint8_t*>(registers[REG_RIP] - 1);
  size_t length = 0;
  {
    const Lock lock;
    for (const Patch& patch : *g.patches) {
      if (patch.at == at) length = patch.length;
    }
    if (at == g.loaded) Refresh(/*early=*/false);
  }
  if (length == 0) {  // Somebody else's.
    sigaction(number, &g.before, nullptr);
    raise(number);
  } else if (at == g.loaded) {
    LeaveLoaded(registers, length);
  } else {
    Answer(registers, length);
    registers[REG_RIP] += static_cast<greg_t>(length) - 1;
  }
  errno = error;
}

// Whether the C library chooses its functions as for a processor of the level: what it takes for
// active (sys/platform/x86.h, since 2.33).
bool HasTunedLibc(image::CpuLevel level) {
  struct Feature {
    unsigned cpuid[4], active[4];
  };
  using Function = const Feature* (*)(unsigned);
  auto ask = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, "__x86_get_cpuid_feature_leaf"));
  if (ask == nullptr) return false;
  enum : unsigned { kLeaf1, kLeaf7, kExtended, kXsave };
  const auto active = [ask](unsigned leaf, size_t reg, int bit) {
    return (ask(leaf)->active[reg] >> bit & 1) != 0;
  };
  const bool xsavec = active(kXsave, 0, 1), rtm = active(kLeaf7, 1, 11),
             fma4 = active(kExtended, 2, 16), avx512 = active(kLeaf7, 1, 16),
             avx512vl = active(kLeaf7, 1, 31), avx = active(kLeaf1, 2, 28),
             avx2 = active(kLeaf7, 1, 5);
  if (xsavec || rtm || fma4) return false;
  if (level < image::CpuLevel::kV4 && (avx512 || avx512vl)) return false;
  return level >= image::CpuLevel::kV3 || (!avx && !avx2);
}

}  // namespace

void MaskProcessor(image::CpuLevel level) {
  g.patches = new std::vector<Patch>;
  g.objects = new std::vector<const void*>;
  g.refusal = new std::string;
  g.level = level;
  if (!HasTunedLibc(level)) {
    Refuse(
        "the C library cannot be told of a processor of another level: it is older than glibc "
        "2.33, or GLIBC_TUNABLES says otherwise");
    return;
  }
  const auto* debug = static_cast<r_debug*>(dlsym(RTLD_DEFAULT, "_r_debug"));
  g.loaded = debug == nullptr ? nullptr : reinterpret_cast<uint8_t*>(debug->r_brk);
  const bool ret = g.loaded != nullptr && *g.loaded == kRet[0];
  const bool endbr = g.loaded != nullptr && std::memcmp(g.loaded, kEndbr, sizeof kEndbr) == 0;
  struct sigaction action = {};
  action.sa_sigaction = OnTrap;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART;
  if ((!ret && !endbr) || sigaction(SIGTRAP, &action, &g.before) != 0) {
    Refuse("the dynamic loader is not one that tells when it loads something");
    return;
  }
  g.on = true;
  const Lock lock;
  Refresh(/*early=*/true);
  PutTrap(g.loaded, ret ? sizeof kRet : sizeof kEndbr, PROT_READ | PROT_EXEC, nullptr,
          "the dynamic loader");
}

std::string UnmaskProcessor() {
  if (g.refusal == nullptr) return "";
  if (g.on) {
    const Lock lock;
    Refresh(/*early=*/false);
    for (const Patch& patch : *g.patches) {
      if (!Write(patch.at, patch.first, patch.protection)) {
        Refuse("what was changed in memory cannot be put back");
      }
    }
    struct sigaction now;
    sigaction(SIGTRAP, &g.before, &now);
    const bool ours = (now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == OnTrap;
    if (!ours) Refuse("preloading has set what SIGTRAP does");
  }
  g.on = false;
  return *g.refusal;
}

}  // namespace pylaunch::engine
