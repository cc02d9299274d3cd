#include "launcher/engine/exit/held_forever.h"

#include <vector>

namespace pylaunch::engine {
namespace {

bool IsDescriptor(PyObject* value) {
  const PyTypeObject* type = Py_TYPE(value);
  return type == &PyMethodDescr_Type || type == &PyWrapperDescr_Type ||
         type == &PyGetSetDescr_Type || type == &PyMemberDescr_Type;
}

// True for a static type's own; its descriptors tell whose it is.
bool IsNamesOfStaticType(PyObject* object) {
  if (!PyDict_CheckExact(object)) return false;
  Py_ssize_t position = 0;
  PyObject *name, *value;
  while (PyDict_Next(object, &position, &name, &value)) {
    if (!IsDescriptor(value)) continue;
    const PyTypeObject* type = PyDescr_TYPE(value);
    if ((type->tp_flags & Py_TPFLAGS_HEAPTYPE) == 0 && type->tp_dict == object) return true;
  }
  return false;
}

struct Walk {
  std::unordered_set<PyObject*> unseen;
  std::vector<PyObject*> found;
};

int Follow(PyObject* object, void* walk) {
  auto* w = static_cast<Walk*>(walk);
  if (w->unseen.erase(object) != 0) w->found.push_back(object);
  return 0;
}

}  // namespace

std::unordered_set<PyObject*> HeldForever(const GcFence& fence) {
  Walk walk;
  fence.VisitAfter([&walk](PyObject* object) { walk.unseen.insert(object); });
  fence.VisitAfter([&walk](PyObject* object) {
    if (IsNamesOfStaticType(object)) Follow(object, &walk);
  });
  for (size_t i = 0; i < walk.found.size(); ++i) {
    PyObject* object = walk.found[i];
    Py_TYPE(object)->tp_traverse(object, Follow, &walk);
  }
  return {walk.found.begin(), walk.found.end()};
}

}  // namespace pylaunch::engine
