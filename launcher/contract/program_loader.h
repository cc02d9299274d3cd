#ifndef PYLAUNCH_LAUNCHER_CONTRACT_PROGRAM_LOADER_H_
#define PYLAUNCH_LAUNCHER_CONTRACT_PROGRAM_LOADER_H_

// Which dynamic loader a program asks for (elf(5), PT_INTERP). The engine is for glibc's: musl's
// would take it and end the program for what musl lacks. Freestanding: usual_start.cc reads it
// before there is a C library.

#include <elf.h>

#include <cstddef>
#include <cstdint>

namespace pylaunch {

// How much of a program to read: the linker puts the name just behind the headers.
constexpr size_t kProgramStart = 1024;

inline bool IsElf(const char* start, size_t size) {
  return size >= SELFMAG && start[0] == ELFMAG0 && start[1] == ELFMAG1 && start[2] == ELFMAG2 &&
         start[3] == ELFMAG3;
}

// `start`: the first `size` bytes of a program, aligned as a pointer is. Null: it names none, or
// further on.
inline const char* ProgramLoader(const char* start, size_t size) {
  if (!IsElf(start, size) || size < sizeof(Elf64_Ehdr)) return nullptr;
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(start);
  if (header->e_phoff % alignof(Elf64_Phdr) != 0 || header->e_phentsize != sizeof(Elf64_Phdr)) {
    return nullptr;
  }
  for (uint64_t i = 0; i < header->e_phnum; ++i) {
    const uint64_t at = header->e_phoff + i * sizeof(Elf64_Phdr);
    if (at > size - sizeof(Elf64_Phdr)) return nullptr;
    const auto* part = reinterpret_cast<const Elf64_Phdr*>(start + at);
    if (part->p_type != PT_INTERP) continue;
    const bool whole =
        part->p_filesz > 0 && part->p_filesz <= size && part->p_offset <= size - part->p_filesz;
    return whole && start[part->p_offset + part->p_filesz - 1] == '\0' ? start + part->p_offset
                                                                       : nullptr;
  }
  return nullptr;
}

// musl's are /lib/ld-musl-<processor>.so.1.
inline bool IsMuslLoader(const char* loader) {
  constexpr char kName[] = "/ld-musl-";
  for (; *loader != '\0'; ++loader) {
    size_t same = 0;
    while (kName[same] != '\0' && loader[same] == kName[same]) ++same;
    if (kName[same] == '\0') return true;
  }
  return false;
}

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_CONTRACT_PROGRAM_LOADER_H_
