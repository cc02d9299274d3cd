#include "launcher/engine/exit/own_tables.h"

#include <sys/mman.h>

#include <cstdint>
#include <memory_resource>

#include "image/region_map.h"
#include "launcher/engine/base/loaded_object.h"

namespace pylaunch::engine {
namespace {

void AddCopies(const GcFence& fence, PyObject* names, std::vector<PyRef>* tables) {
  constexpr char kOnlyThere[] = "__build_class__";
  PyObject* mark = PyDict_GetItemString(names, kOnlyThere);
  if (mark == nullptr) return;
  PyRef key = PyRef::Steal(PyUnicode_InternFromString(kOnlyThere));
  std::vector<PyObject*> found;
  fence.VisitBefore([&](PyObject* object) {
    if (PyDict_CheckExact(object) && object != names &&
        PyDict_GetItemWithError(object, key.get()) == mark) {
      found.push_back(object);
    }
  });
  PyErr_Clear();
  for (PyObject* copy : found) tables->push_back(PyRef::Share(copy));
}

using Words = std::pair<const uintptr_t*, const uintptr_t*>;

// The variables of the executable or library that `address` lies in.
std::vector<Words> VariablesBeside(const void* address) {
  std::vector<Words> variables;
  VisitObjectOf(address, [&](const dl_phdr_info& object) {
    ForEachSegment(object, PT_LOAD, [&](const ElfW(Phdr) & segment, uintptr_t begin) {
      if ((segment.p_flags & PF_W) == 0) return;
      constexpr uintptr_t kWord = sizeof(uintptr_t);
      const uintptr_t end = begin + segment.p_memsz;
      variables.emplace_back(reinterpret_cast<const uintptr_t*>((begin + kWord - 1) & -kWord),
                             reinterpret_cast<const uintptr_t*>(end & -kWord));
    });
  });
  return variables;
}

// What may be read without a fault.
class Readable {
 public:
  Readable() : regions_(image::ReadRegions(std::pmr::get_default_resource(), /*traits=*/false)) {}
  bool Has(uintptr_t address, size_t size) const {
    for (const image::Region& region : regions_) {
      if (address < region.start || address >= region.end) continue;
      return (region.protection & PROT_READ) != 0 && size <= region.end - address;
    }
    return false;
  }

 private:
  std::pmr::vector<image::Region> regions_;
};

bool IsExtensionTable(PyObject* dict) {
  Py_ssize_t position = 0;
  PyObject *key, *value;
  while (PyDict_Next(dict, &position, &key, &value)) {
    if (!PyTuple_CheckExact(key) || Py_TYPE(value) != &PyModuleDef_Type) return false;
  }
  return PyDict_GET_SIZE(dict) > 0;
}

// A dict in use, by what can be told without trusting the address.
bool IsDict(uintptr_t address, const Readable& readable) {
  constexpr Py_ssize_t kMostReferences = 16;
  if (address % alignof(PyObject) != 0 || !readable.Has(address, sizeof(PyDictObject)))
    return false;
  auto* dict = reinterpret_cast<PyDictObject*>(address);
  return Py_TYPE(dict) == &PyDict_Type && Py_REFCNT(dict) > 0 &&
         Py_REFCNT(dict) <= kMostReferences && dict->ma_used > 0 &&
         readable.Has(reinterpret_cast<uintptr_t>(dict->ma_keys), sizeof(uintptr_t));
}

void AddExtensions(std::vector<PyRef>* tables) {
  const Readable readable;
  for (const auto& [begin, end] : VariablesBeside(&PyDict_Type)) {
    for (const uintptr_t* word = begin; word < end; ++word) {
      if (!IsDict(*word, readable)) continue;
      auto* dict = reinterpret_cast<PyObject*>(*word);
      if (IsExtensionTable(dict)) tables->push_back(PyRef::Share(dict));
    }
  }
}

}  // namespace

std::vector<PyRef> OwnTables(const GcFence& fence, PyObject* builtins_names) {
  std::vector<PyRef> tables;
  AddCopies(fence, builtins_names, &tables);
  AddExtensions(&tables);
  return tables;
}

}  // namespace pylaunch::engine
