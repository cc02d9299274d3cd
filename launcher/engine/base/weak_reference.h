#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_WEAK_REFERENCE_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_WEAK_REFERENCE_H_

#include <Python.h>

namespace pylaunch::engine {

// What a weak reference (PyWeakref_NewRef) refers to; null, without an exception: it is gone.
// Borrowed: from who keeps the object alive. PyWeakref_GET_OBJECT is gone from 3.15,
// PyWeakref_GetRef came with 3.13.
inline PyObject* Referent(PyObject* reference) {
#if PY_VERSION_HEX >= 0x030D0000
  PyObject* object = nullptr;
  if (PyWeakref_GetRef(reference, &object) == 1) Py_DECREF(object);
  return object;
#else
  PyObject* object = PyWeakref_GET_OBJECT(reference);
  return object == Py_None ? nullptr : object;
#endif
}

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_WEAK_REFERENCE_H_
