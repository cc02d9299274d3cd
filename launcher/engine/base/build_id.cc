#include "launcher/engine/base/build_id.h"

#include <elf.h>

#include <cstdint>
#include <cstring>

namespace pylaunch::engine {
namespace {

std::string_view IdAmong(const char* notes, size_t size) {
  const auto padded = [](uint32_t length) { return (size_t{length} + 3) & ~size_t{3}; };
  for (size_t at = 0; at + sizeof(ElfW(Nhdr)) <= size;) {
    ElfW(Nhdr) note;
    std::memcpy(&note, notes + at, sizeof note);
    const size_t name = at + sizeof note, id = name + padded(note.n_namesz);
    const size_t next = id + padded(note.n_descsz);
    if (next > size) break;
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
        std::memcmp(notes + name, "GNU", 4) == 0) {
      return {notes + id, note.n_descsz};
    }
    at = next;
  }
  return {};
}

}  // namespace

std::string_view BuildId(const dl_phdr_info& object) {
  for (int i = 0; i < object.dlpi_phnum; ++i) {
    const ElfW(Phdr)& part = object.dlpi_phdr[i];
    if (part.p_type != PT_NOTE) continue;
    const auto* notes = reinterpret_cast<const char*>(object.dlpi_addr + part.p_vaddr);
    const std::string_view id = IdAmong(notes, part.p_memsz);
    if (!id.empty()) return id;
  }
  return {};
}

}  // namespace pylaunch::engine
