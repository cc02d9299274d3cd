#include "launcher/engine/environment/c_environ_users.h"

#include <dlfcn.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/engine/base/known_list.h"
#include "launcher/engine/base/loaded_object.h"

namespace pylaunch::engine {
namespace {

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
  ForEachSegment(object, PT_DYNAMIC, [&](const ElfW(Phdr)&, uintptr_t begin) {
    const auto* entry = reinterpret_cast<const ElfW(Dyn)*>(begin);
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
  });
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

uintptr_t AddressOf(const char* function) {
  return reinterpret_cast<uintptr_t>(dlsym(RTLD_DEFAULT, function));
}

}  // namespace

EnvironUse UseOfEnviron(const std::string& known) {
  const uintptr_t uncounted[] = {AddressOf("Py_RunMain"), AddressOf("gnu_get_libc_version"),
                                 reinterpret_cast<uintptr_t>(&UseOfEnviron)};
  std::vector<std::string> users;
  AnyLoadedObject([&](const dl_phdr_info& object) {
    for (const uintptr_t address : uncounted) {
      if (Holds(object, address)) return false;
    }
    const std::string_view path = object.dlpi_name;
    if (path.find("/ld-linux") != path.npos) return false;
    if (UsesEnviron(object)) users.emplace_back(path);
    return false;
  });
  // The list looks for files, which is nothing to do under the loader's lock.
  KnownList list = KnownList::Read(known);
  EnvironUse use;
  for (const std::string& user : users) {
    if (!list.HasLibrary(user)) return {user, {}};
    const std::vector<std::string>& prefixes = list.ReadBy(user);
    use.prefixes.insert(use.prefixes.end(), prefixes.begin(), prefixes.end());
  }
  return use;
}

}  // namespace pylaunch::engine
