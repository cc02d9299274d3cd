#include "launcher/engine/imaging/save_area.h"

#include <cpuid.h>
#include <elf.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstring>
#include <string_view>

namespace pylaunch::engine {
namespace {

constexpr uint8_t kMakeRoom[] = {0x48, 0x2b, 0x25};  // And a displacement of four bytes.
constexpr uint64_t kAlignment = 64;
constexpr uint64_t kPageSize = 4096;
// PKRU and AMX's tiles, which are not saved (image/travel.cc).
constexpr uint64_t kUnsaved = uint64_t{1} << 9 | uint64_t{1} << 17 | uint64_t{1} << 18;

uint64_t Xcr0() {
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

bool HasXcr0() {
  uint32_t a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_OSXSAVE) != 0;
}

long ProtectDirectly(uintptr_t page, int protection) {
  long result;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(SYS_mprotect), "D"(page), "S"(kPageSize), "d"(protection)
               : "rcx", "r11", "memory");
  return result;
}

struct Segment {
  uintptr_t begin = 0, end = 0;
  bool Has(uintptr_t at) const { return at >= begin && at + sizeof(uint64_t) <= end; }
};
struct Loader {
  std::vector<Segment> code, data;
  Segment readonly;
};

int NoteLoader(dl_phdr_info* info, size_t, void* to) {
  const std::string_view name = info->dlpi_name == nullptr ? "" : info->dlpi_name;
  if (!name.ends_with("/ld-linux-x86-64.so.2")) return 0;
  auto* loader = static_cast<Loader*>(to);
  for (size_t i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info->dlpi_phdr[i];
    const uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
    const Segment whole = {begin, begin + segment.p_memsz};
    if (segment.p_type == PT_GNU_RELRO) loader->readonly = whole;
    if (segment.p_type != PT_LOAD) continue;
    if ((segment.p_flags & PF_X) != 0) loader->code.push_back(whole);
    if ((segment.p_flags & PF_W) != 0) loader->data.push_back(whole);
  }
  return 1;
}

}  // namespace

SaveArea SaveArea::Now() {
  SaveArea area;
  area.state_ = HasXcr0() ? Xcr0() : 0;
  Loader loader;
  dl_iterate_phdr(NoteLoader, &loader);
  for (const Segment& code : loader.code) {
    const auto* end = reinterpret_cast<const uint8_t*>(code.end);
    for (auto* at = reinterpret_cast<const uint8_t*>(code.begin);; ++at) {
      at = std::search(at, end, kMakeRoom, kMakeRoom + sizeof kMakeRoom);
      if (end - at < 7) break;
      int32_t displacement;
      std::memcpy(&displacement, at + sizeof kMakeRoom, sizeof displacement);
      const uintptr_t target =
          reinterpret_cast<uintptr_t>(at) + 7 + static_cast<uintptr_t>(displacement);
      const bool in_data = std::any_of(loader.data.begin(), loader.data.end(),
                                       [target](const Segment& data) { return data.Has(target); });
      auto* size = reinterpret_cast<uint64_t*>(target);
      constexpr uint64_t kMost = 65536;
      if (!in_data || target % sizeof *size != 0 || *size > kMost || *size % kAlignment != 0) {
        return area;
      }
      const bool again = std::any_of(area.sizes_.begin(), area.sizes_.end(),
                                     [size](const Size& other) { return other.at == size; });
      if (!again) area.sizes_.push_back({size, loader.readonly.Has(target)});
    }
  }
  area.known_ = !area.sizes_.empty();
  return area;
}

uint64_t SaveArea::RoomFor(uint64_t state) {
  // Before the state registers are saved, glibc's STATE_SAVE_OFFSET: 64 bytes in 2.36. What comes
  // first, x87 and SSE, and the header have no leaf of their own.
  constexpr uint64_t kBefore = 256, kFirst = 576;
  uint64_t end = kFirst;
  for (uint32_t i = 2; i < 63; ++i) {
    if ((state >> i & 1) == 0) continue;
    uint32_t size, offset, c, d;
    __cpuid_count(0xd, i, size, offset, c, d);
    end = offset + size > end ? offset + size : end;
  }
  return (end + kBefore + kAlignment - 1) / kAlignment * kAlignment;
}

void SaveArea::Renew() const {
  if (!known_ || state_ == 0) return;
  const uint64_t now = Xcr0() & ~kUnsaved;
  if ((now & ~state_) == 0) return;
  const uint64_t room = RoomFor(now);
  for (const Size& size : sizes_) {
    // 0: the state is not saved in this way.
    if (*size.at == 0 || *size.at >= room) continue;
    const uintptr_t page = reinterpret_cast<uintptr_t>(size.at) & ~(kPageSize - 1);
    if (size.readonly && ProtectDirectly(page, PROT_READ | PROT_WRITE) != 0) continue;
    *size.at = room;
    if (size.readonly) ProtectDirectly(page, PROT_READ);
  }
}

}  // namespace pylaunch::engine
