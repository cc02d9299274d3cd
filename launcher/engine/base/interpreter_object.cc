#include "launcher/engine/base/interpreter_object.h"

#include <Python.h>
#include <link.h>

#include <algorithm>
#include <cstdint>

#include "launcher/engine/base/py_ref.h"  // Py_RunMain is weak.

namespace pylaunch::engine {
namespace {

struct Range {
  uintptr_t begin = 0, end = 0;
  bool Holds(uintptr_t address) const { return address >= begin && address < end; }
};

// dl_iterate_phdr's callback: stops at the object that holds Py_RunMain.
int TakeRange(dl_phdr_info* info, size_t, void* out) {
  Range range = {UINTPTR_MAX, 0};
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD) continue;
    range.begin = std::min<uintptr_t>(range.begin, info->dlpi_addr + segment.p_vaddr);
    range.end = std::max<uintptr_t>(range.end, info->dlpi_addr + segment.p_vaddr + segment.p_memsz);
  }
  if (!range.Holds(reinterpret_cast<uintptr_t>(&Py_RunMain))) return 0;
  *static_cast<Range*>(out) = range;
  return 1;
}

Range FindRange() {
  Range range;
  dl_iterate_phdr(TakeRange, &range);
  return range;
}

}  // namespace

bool IsInterpreters(const void* address) {
  static const Range range = FindRange();
  return range.Holds(reinterpret_cast<uintptr_t>(address));
}

}  // namespace pylaunch::engine
