#include "launcher/engine/imaging/live_objects.h"

#include "launcher/engine/base/gc_state.h"
#include "launcher/engine/base/own_modules.h"
#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine {
namespace {

// Appends `object` to `found` if it is of one of `types`; false: an exception is set.
bool Take(PyObject* object, PyObject* types, PyObject* found) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(types); ++i) {
    if (PyTuple_GET_ITEM(types, i) != reinterpret_cast<PyObject*>(Py_TYPE(object))) continue;
    return PyList_Append(found, object) == 0;
  }
  return true;
}

PyRef AllObjects() {
  PyRef gc = BuiltinModule("gc");
  return gc ? PyRef::Steal(PyObject_CallMethod(gc.get(), "get_objects", nullptr)) : PyRef();
}

bool AppendFrom(const gc::State& state, PyObject* types, PyObject* found) {
  for (int i = 0; i < gc::kGenerations; ++i) {
    const gc::Node* head = &state.generations[i].head;
    for (const gc::Node* it = gc::Next(head); it != head; it = gc::Next(it)) {
      if (!Take(gc::ObjectOf(it), types, found)) return false;
    }
  }
  return true;
}

bool AppendFrom(PyObject* objects, PyObject* types, PyObject* found) {
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(objects); ++i) {
    if (!Take(PyList_GET_ITEM(objects, i), types, found)) return false;
  }
  return true;
}

// A collection meanwhile would move objects between the lists.
PyObject* LiveObjects(PyObject*, PyObject* types) {
  const int enabled = PyGC_Disable();
  PyRef found = PyRef::Steal(PyList_New(0));
  bool done = false;
  if (found && PyObject_GC_IsTracked(found.get())) {
    if (const gc::State state = gc::FindState(found.get())) {
      done = AppendFrom(state, types, found.get());
    } else if (PyRef all = AllObjects(); all && PyList_Check(all.get())) {
      done = AppendFrom(all.get(), types, found.get());
    }
  }
  if (enabled) PyGC_Enable();
  if (!done && !PyErr_Occurred()) PyErr_NoMemory();
  return done ? found.release() : nullptr;
}

PyMethodDef kLiveObjects = {"live_objects", LiveObjects, METH_VARARGS, nullptr};

}  // namespace

PyObject* NewLiveObjects() { return PyCFunction_New(&kLiveObjects, nullptr); }

}  // namespace pylaunch::engine
