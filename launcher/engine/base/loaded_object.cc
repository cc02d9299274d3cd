#include "launcher/engine/base/loaded_object.h"

namespace pylaunch::engine {

bool Holds(const dl_phdr_info& object, uintptr_t address) {
  bool holds = false;
  ForEachSegment(object, PT_LOAD, [&](const ElfW(Phdr) & segment, uintptr_t begin) {
    holds = holds || address - begin < segment.p_memsz;
  });
  return holds;
}

}  // namespace pylaunch::engine
