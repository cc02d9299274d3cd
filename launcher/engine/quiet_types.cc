#include "launcher/engine/quiet_types.h"

#include <dlfcn.h>

#include <string>

#include "launcher/engine/library_ends.h"

#pragma weak PyType_Type

namespace pylaunch::engine {
namespace {

Dl_info LibraryOf(const void* address) {
  Dl_info info = {};
  dladdr(address, &info);
  return info;
}

std::string ListBesideEngine() {
  static const char here = 0;
  const char* engine = LibraryOf(&here).dli_fname;
  const std::string path = engine == nullptr ? "" : engine;
  return path.substr(0, path.rfind('/') + 1) + "resume/quiet_types.txt";
}

}  // namespace

QuietTypes::QuietTypes()
    : interpreter_(LibraryOf(reinterpret_cast<void*>(PyType_Type.tp_free)).dli_fbase),
      libraries_(ReadNameList(ListBesideEngine())) {}

bool QuietTypes::Contain(PyTypeObject* type) {
  constexpr int kTypeAlignment = 4;  // In bits.
  Known& known = known_[(reinterpret_cast<uintptr_t>(type) >> kTypeAlignment) % known_.size()];
  if (known.type != type) known = {type, IsQuiet(type)};
  return known.quiet;
}

// A class's tp_dealloc is subtype_dealloc, which calls that of the first base with another one.
bool QuietTypes::IsQuiet(PyTypeObject* type) const {
  for (; type != nullptr; type = type->tp_base) {
    const Dl_info library = LibraryOf(reinterpret_cast<void*>(type->tp_dealloc));
    if (library.dli_fbase == interpreter_) continue;
    if (library.dli_fname == nullptr) return false;
    if (!IsListed(library.dli_fname, libraries_)) return false;
  }
  return true;
}

}  // namespace pylaunch::engine
