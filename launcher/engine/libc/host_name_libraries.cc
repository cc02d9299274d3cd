#include "launcher/engine/libc/host_name_libraries.h"

#include <cstdint>
#include <cstring>
#include <string_view>

#include "launcher/engine/base/loaded_object.h"

namespace pylaunch::engine {
namespace {

constexpr std::string_view kLibraries = "\n"
#include "host_name_libraries.inc"
    ;
constexpr size_t kBuildIdSize = 20;  // SHA-1, as linkers make it.

bool IsListed(const unsigned char* id) {
  char line[2 * kBuildIdSize + 2];  // A newline before, a space behind.
  line[0] = '\n';
  for (size_t i = 0; i < kBuildIdSize; ++i) {
    constexpr char kDigits[] = "0123456789abcdef";
    line[1 + 2 * i] = kDigits[id[i] >> 4];
    line[2 + 2 * i] = kDigits[id[i] & 15];
  }
  line[sizeof line - 1] = ' ';
  return kLibraries.find(std::string_view(line, sizeof line)) != kLibraries.npos;
}

bool HasListedId(const char* notes, size_t size) {
  const auto padded = [](uint32_t length) { return (size_t{length} + 3) & ~size_t{3}; };
  for (size_t at = 0; at + sizeof(ElfW(Nhdr)) <= size;) {
    ElfW(Nhdr) note;
    std::memcpy(&note, notes + at, sizeof note);
    const size_t name = at + sizeof note, id = name + padded(note.n_namesz);
    const size_t next = id + padded(note.n_descsz);
    if (next > size) return false;
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && note.n_descsz == kBuildIdSize &&
        std::memcmp(notes + name, "GNU", 4) == 0) {
      return IsListed(reinterpret_cast<const unsigned char*>(notes + id));
    }
    at = next;
  }
  return false;
}

}  // namespace

bool KeepsNoHostName(const void* caller) {
  bool listed = false;
  VisitObjectOf(caller, [&](const dl_phdr_info& object) {
    ForEachSegment(object, PT_NOTE, [&](const ElfW(Phdr) & segment, uintptr_t begin) {
      listed = listed || HasListedId(reinterpret_cast<const char*>(begin), segment.p_memsz);
    });
  });
  return listed;
}

}  // namespace pylaunch::engine
