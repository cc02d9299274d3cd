#include "launcher/engine/exit/module_index.h"

#include <algorithm>
#include <utility>

#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine {
namespace {

using Place = std::pair<Py_ssize_t, PyObject*>;

// Where the list must have which modules, by those that can be looked up.
std::vector<Place> KnownPlaces() {
  std::vector<Place> places;
  Py_ssize_t position = 0;
  PyObject *name, *module;
  while (PyDict_Next(PyImport_GetModuleDict(), &position, &name, &module)) {
    PyModuleDef* definition = PyModule_Check(module) ? PyModule_GetDef(module) : nullptr;
    if (definition != nullptr && PyState_FindModule(definition) == module)
      places.emplace_back(definition->m_base.m_index, module);
  }
  return places;
}

bool HasAll(PyObject* list, const std::vector<Place>& places) {
  return std::all_of(places.begin(), places.end(), [list](const Place& place) {
    return place.first < PyList_GET_SIZE(list) &&
           PyList_GET_ITEM(list, place.first) == place.second;
  });
}

}  // namespace

void ModuleIndex::Note(const GcFence& fence) {
  const std::vector<Place> places = KnownPlaces();
  constexpr size_t kEnough = 4;  // For no other list to have them all at these places.
  if (places.size() < kEnough) return;
  std::vector<PyObject*> found;
  fence.VisitBefore([&](PyObject* object) {
    if (PyList_CheckExact(object) && HasAll(object, places)) found.push_back(object);
  });
  if (found.size() != 1) return;
  list_ = found.front();
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list_); ++i) {
    PyObject* module = PyList_GET_ITEM(list_, i);
    noted_.push_back(module != nullptr && PyModule_Check(module) ? module : nullptr);
  }
}

void ModuleIndex::Forget() {
  if (list_ == nullptr) return;
  const auto size = std::min(noted_.size(), static_cast<size_t>(PyList_GET_SIZE(list_)));
  for (size_t i = 0; i < size; ++i) {
    PyObject*& place = reinterpret_cast<PyListObject*>(list_)->ob_item[i];
    if (noted_[i] == nullptr || place != noted_[i]) continue;
    Py_INCREF(Py_None);
    place = Py_None;  // The list's reference to the module stays with the module.
  }
}

}  // namespace pylaunch::engine
