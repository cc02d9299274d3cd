#include "launcher/engine/exit/quiet_types.h"

#include <dlfcn.h>

#include <string>
#include <string_view>

#include "launcher/engine/base/interpreter_object.h"

namespace pylaunch::engine {
namespace {

std::string ListBesideEngine() {
  static const char here = 0;
  const std::string path = CodeFile(&here);
  return path.substr(0, path.rfind('/') + 1) + "resume/quiet_types.txt";
}

}  // namespace

// dladdr(3) looks for the nearest symbol, too, which takes long.
std::string CodeFile(const void* address) {
  Dl_info info = {};
  return dladdr(address, &info) == 0 ? "" : info.dli_fname;
}

QuietTypes::QuietTypes() : libraries_(KnownList::Read(ListBesideEngine())) {}

bool QuietTypes::Contain(PyTypeObject* type) {
  constexpr int kTypeAlignment = 4;  // In bits.
  Known& known = known_[(reinterpret_cast<uintptr_t>(type) >> kTypeAlignment) % known_.size()];
  if (known.type != type) known = {type, IsQuiet(type)};
  return known.quiet;
}

bool QuietTypes::ContainCode(const void* function) { return IsListed(function, ""); }

bool QuietTypes::IsListed(const void* function, std::string_view type) {
  if (IsInterpreters(function)) return true;
  const std::string library = CodeFile(function);
  return !library.empty() && libraries_.HasLibrary(library) && libraries_.HasTypeOf(library, type);
}

// "_cython_3_2_4.cython_function_or_method": of the libraries that one version of Cython has made,
// the first to be imported makes it for all.
bool QuietTypes::IsCythons(std::string_view name) const {
  constexpr std::string_view kModule = "_cython_";
  const size_t dot = name.find('.');
  if (!name.starts_with(kModule) || dot == name.npos) return false;
  return libraries_.HasProof(name.substr(dot + 1), "cython-abi",
                             name.substr(kModule.size(), dot - kModule.size()));
}

// A class's tp_dealloc is subtype_dealloc, which calls that of the first base with another one.
bool QuietTypes::IsQuiet(PyTypeObject* type) {
  for (; type != nullptr; type = type->tp_base) {
    const auto* function = reinterpret_cast<const void*>(type->tp_dealloc);
    if (!IsCythons(type->tp_name) && !IsListed(function, type->tp_name)) return false;
  }
  return true;
}

}  // namespace pylaunch::engine
