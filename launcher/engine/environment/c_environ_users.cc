#include "launcher/engine/environment/c_environ_users.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <cstdint>
#include <cstring>
#include <string_view>

#include "launcher/engine/base/known_list.h"

namespace pylaunch::engine {
namespace {

struct Search {
  KnownList known;
  uintptr_t python;  // Of a function of CPython...
  uintptr_t libc;    // ...of the C library...
  uintptr_t engine;  // ...and of ours.
  std::string found;
};

bool Holds(const dl_phdr_info& object, uintptr_t address) {
  for (int i = 0; i < object.dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = object.dlpi_phdr[i];
    const uintptr_t begin = object.dlpi_addr + segment.p_vaddr;
    if (segment.p_type == PT_LOAD && address >= begin && address < begin + segment.p_memsz) {
      return true;
    }
  }
  return false;
}

// What of an object's dynamic section (elf(5)) tells which symbols of others it refers to.
struct Dynamic {
  const char* names = nullptr;
  const ElfW(Sym) * symbols = nullptr;
  const ElfW(Rela) * relocations = nullptr;
  size_t count = 0;
  size_t relative = 0;  // The first ones, which have no symbol.
};

Dynamic ParseDynamic(const dl_phdr_info& object) {
  Dynamic dynamic;
  for (int i = 0; i < object.dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = object.dlpi_phdr[i];
    if (segment.p_type != PT_DYNAMIC) continue;
    const auto* entry = reinterpret_cast<const ElfW(Dyn)*>(object.dlpi_addr + segment.p_vaddr);
    for (; entry->d_tag != DT_NULL; ++entry) {
      // The loader has put addresses where the file has offsets, except in the kernel's vdso.
      const uintptr_t value = entry->d_un.d_ptr;
      const uintptr_t address = value < object.dlpi_addr ? object.dlpi_addr + value : value;
      if (entry->d_tag == DT_STRTAB) dynamic.names = reinterpret_cast<const char*>(address);
      if (entry->d_tag == DT_SYMTAB) {
        dynamic.symbols = reinterpret_cast<const ElfW(Sym)*>(address);
      }
      if (entry->d_tag == DT_RELA) {
        dynamic.relocations = reinterpret_cast<const ElfW(Rela)*>(address);
      }
      if (entry->d_tag == DT_RELASZ) dynamic.count = value / sizeof(ElfW(Rela));
      if (entry->d_tag == DT_RELACOUNT) dynamic.relative = value;
    }
  }
  return dynamic;
}

bool UsesEnviron(const dl_phdr_info& object) {
  const Dynamic dynamic = ParseDynamic(object);
  if (dynamic.names == nullptr || dynamic.symbols == nullptr || dynamic.relocations == nullptr) {
    return false;
  }
  for (size_t i = dynamic.relative; i < dynamic.count; ++i) {
    const size_t symbol = ELF64_R_SYM(dynamic.relocations[i].r_info);
    if (symbol == 0) continue;
    const std::string_view name = dynamic.names + dynamic.symbols[symbol].st_name;
    if (name == "environ" || name == "__environ" || name == "_environ") return true;
  }
  return false;
}

// dl_iterate_phdr's callback.
int Look(dl_phdr_info* object, size_t, void* out) {
  auto* search = static_cast<Search*>(out);
  for (const uintptr_t address : {search->python, search->libc, search->engine}) {
    if (Holds(*object, address)) return 0;
  }
  const std::string_view path = object->dlpi_name;
  if (path.find("/ld-linux") != path.npos) return 0;
  if (search->known.HasLibrary(path) || !UsesEnviron(*object)) return 0;
  search->found = path;
  return 1;
}

uintptr_t AddressOf(const char* function) {
  return reinterpret_cast<uintptr_t>(dlsym(RTLD_DEFAULT, function));
}

}  // namespace

std::string EnvironUser(const std::string& known) {
  Search search{KnownList::Read(known), AddressOf("Py_RunMain"), AddressOf("gnu_get_libc_version"),
                reinterpret_cast<uintptr_t>(&EnvironUser), ""};
  dl_iterate_phdr(Look, &search);
  return search.found;
}

}  // namespace pylaunch::engine
