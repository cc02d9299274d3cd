#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_LOADED_OBJECT_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_LOADED_OBJECT_H_

#include <link.h>

#include <cstdint>

namespace pylaunch::engine {

// What the dynamic loader has loaded: the executable, libraries, the kernel's vdso. Nothing here
// allocates memory. Any thread; the loader's lock is held while `visit` runs (dl_iterate_phdr(3)),
// so it may load nothing.

// Calls `visit(const dl_phdr_info&)` for each object, in the order of their loading, until it
// returns true; then so does this.
template <typename Visit>
bool AnyLoadedObject(Visit visit) {
  const auto call = [](dl_phdr_info* object, size_t, void* to) {
    return (*static_cast<Visit*>(to))(const_cast<const dl_phdr_info&>(*object)) ? 1 : 0;
  };
  return dl_iterate_phdr(call, &visit) != 0;
}

// Calls `visit(const ElfW(Phdr)&, uintptr_t begin)` for each of its segments of `type` (elf(5)),
// `begin` being where it lies in memory.
template <typename Visit>
void ForEachSegment(const dl_phdr_info& object, uint32_t type, Visit visit) {
  for (int i = 0; i < object.dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = object.dlpi_phdr[i];
    if (segment.p_type == type) visit(segment, object.dlpi_addr + segment.p_vaddr);
  }
}

// True if `address` lies in what was loaded of `object`.
bool Holds(const dl_phdr_info& object, uintptr_t address);

// Calls `visit(const dl_phdr_info&)` for the object that holds `address`, if there is one.
template <typename Visit>
void VisitObjectOf(const void* address, Visit visit) {
  AnyLoadedObject([&](const dl_phdr_info& object) {
    const bool found = Holds(object, reinterpret_cast<uintptr_t>(address));
    if (found) visit(object);
    return found;
  });
}

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_LOADED_OBJECT_H_
