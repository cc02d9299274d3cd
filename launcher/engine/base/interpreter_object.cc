#include "launcher/engine/base/interpreter_object.h"

#include <Python.h>

#include <algorithm>
#include <cstdint>

#include "launcher/engine/base/loaded_object.h"
#include "launcher/engine/base/py_ref.h"  // Py_RunMain is weak.

namespace pylaunch::engine {
namespace {

struct Range {
  uintptr_t begin = 0, end = 0;
  bool Holds(uintptr_t address) const { return address >= begin && address < end; }
};

Range FindRange() {
  Range range;
  VisitObjectOf(reinterpret_cast<const void*>(&Py_RunMain), [&](const dl_phdr_info& object) {
    range.begin = UINTPTR_MAX;
    ForEachSegment(object, PT_LOAD, [&](const ElfW(Phdr) & segment, uintptr_t begin) {
      range.begin = std::min(range.begin, begin);
      range.end = std::max(range.end, begin + segment.p_memsz);
    });
  });
  return range;
}

}  // namespace

bool IsInterpreters(const void* address) {
  static const Range range = FindRange();
  return range.Holds(reinterpret_cast<uintptr_t>(address));
}

}  // namespace pylaunch::engine
