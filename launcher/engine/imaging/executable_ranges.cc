#include "launcher/engine/imaging/executable_ranges.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "cache/descriptor.h"

namespace pylaunch::engine {
namespace {

std::vector<ElfW(Shdr)> SectionsOf(const char* path) {
  const cache::Descriptor file(
      open(path == nullptr || *path == '\0' ? "/proc/self/exe" : path, O_RDONLY | O_CLOEXEC));
  ElfW(Ehdr) header;
  if (pread(file.get(), &header, sizeof header, 0) != sizeof header) return {};
  if (header.e_shentsize != sizeof(ElfW(Shdr))) return {};
  std::vector<ElfW(Shdr)> sections(header.e_shnum);
  const size_t size = sections.size() * sizeof(ElfW(Shdr));
  const ssize_t n = pread(file.get(), sections.data(), size, static_cast<off_t>(header.e_shoff));
  return n == static_cast<ssize_t>(size) ? sections : std::vector<ElfW(Shdr)>();
}

int ProtectionOf(const ElfW(Phdr) & segment) {
  return ((segment.p_flags & PF_R) != 0 ? PROT_READ : 0) |
         ((segment.p_flags & PF_W) != 0 ? PROT_WRITE : 0) |
         ((segment.p_flags & PF_X) != 0 ? PROT_EXEC : 0);
}

}  // namespace

std::vector<ExecutableRange> ExecutableRanges(const dl_phdr_info& object) {
  const std::vector<ElfW(Shdr)> sections = SectionsOf(object.dlpi_name);
  std::vector<ExecutableRange> ranges;
  for (size_t i = 0; i < object.dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = object.dlpi_phdr[i];
    if (segment.p_type != PT_LOAD || (segment.p_flags & PF_X) == 0) continue;
    const ElfW(Addr) first = segment.p_vaddr, last = first + segment.p_filesz;
    const auto add = [&](ElfW(Addr) begin, ElfW(Addr) end) {
      ranges.push_back({reinterpret_cast<uint8_t*>(object.dlpi_addr + begin),
                        reinterpret_cast<uint8_t*>(object.dlpi_addr + end), ProtectionOf(segment)});
    };
    if (sections.empty()) add(first, last);
    for (const ElfW(Shdr) & section : sections) {
      const bool code = (section.sh_flags & SHF_ALLOC) != 0 &&
                        (section.sh_flags & SHF_EXECINSTR) != 0 && section.sh_type != SHT_NOBITS;
      if (!code || section.sh_addr < first || section.sh_addr >= last) continue;
      add(section.sh_addr, std::min(section.sh_addr + section.sh_size, last));
    }
  }
  return ranges;
}

}  // namespace pylaunch::engine
