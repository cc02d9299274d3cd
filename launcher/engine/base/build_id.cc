#include "launcher/engine/base/build_id.h"

#include <elf.h>

#include <cstdint>
#include <cstring>

#include "launcher/engine/base/loaded_object.h"

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
  std::string_view id;
  ForEachSegment(object, PT_NOTE, [&id](const ElfW(Phdr) & segment, uintptr_t begin) {
    if (id.empty()) id = IdAmong(reinterpret_cast<const char*>(begin), segment.p_memsz);
  });
  return id;
}

void PutHexadecimal(std::string_view bytes, char* out) {
  constexpr char kDigits[] = "0123456789abcdef";
  for (const unsigned char byte : bytes) {
    *out++ = kDigits[byte >> 4];
    *out++ = kDigits[byte & 15];
  }
}

}  // namespace pylaunch::engine
