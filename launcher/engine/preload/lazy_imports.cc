#include "launcher/engine/preload/lazy_imports.h"

namespace pylaunch::engine {

#if PY_VERSION_HEX >= 0x030F0000

// Exported by 3.15; declared in an internal header (pycore_lazyimportobject.h).
// Weak: weak_python.cmake.
extern "C" __attribute__((weak)) PyTypeObject PyLazyImport_Type;

namespace {

// Whose attributes are found by CPython's own function, which is what resolves.
bool IsPlainModule(PyObject* module) {
  return PyModule_Check(module) && Py_TYPE(module)->tp_getattro == PyModule_Type.tp_getattro;
}

PyRef Modules() {
  PyObject* modules = PyImport_GetModuleDict();
  return modules == nullptr ? PyRef() : PyRef::Steal(PyDict_Values(modules));
}

}  // namespace

LazyImports::LazyImports() {
  PyRef modules = Modules();
  if (!modules) PyErr_Clear();
  for (Py_ssize_t i = 0; modules && i < PyList_GET_SIZE(modules.get()); ++i)
    known_.insert(PyList_GET_ITEM(modules.get(), i));
}

// Appends (module, name) for each.
void LazyImports::Visit(PyObject* module, PyObject* pending) {
  Py_ssize_t position = 0;
  PyObject *name, *value;
  while (PyDict_Next(PyModule_GetDict(module), &position, &name, &value)) {
    if (!Py_IS_TYPE(value, &PyLazyImport_Type)) continue;
    PyRef pair = PyRef::Steal(PyTuple_Pack(2, module, name));
    if (!pair || PyList_Append(pending, pair.get()) < 0) PyErr_Clear();
  }
}

bool LazyImports::Take(PyObject* pending) {
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(pending); ++i) {
    PyObject* pair = PyList_GET_ITEM(pending, i);
    // Not resolve(): the module would keep the lazy one, and import once more (gh-152298).
    if (PyRef::Steal(PyObject_GetAttr(PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1))))
      continue;
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) return false;
    PyErr_Clear();
  }
  return true;
}

bool LazyImports::Resolve(const std::string& name) {
  PyRef pending = PyRef::Steal(PyList_New(0));
  PyObject* own = PyDict_GetItemString(PyImport_GetModuleDict(), name.c_str());
  if (own != nullptr) known_.erase(own);
  for (bool more = true; more;) {
    more = false;
    PyRef modules = Modules();
    if (!modules || !pending) return true;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(modules.get()); ++i) {
      PyObject* module = PyList_GET_ITEM(modules.get(), i);
      if (!known_.insert(module).second) continue;
      more = true;
      if (IsPlainModule(module)) Visit(module, pending.get());
    }
    if (!Take(pending.get())) return false;
    if (PyList_SetSlice(pending.get(), 0, PY_SSIZE_T_MAX, nullptr) < 0) PyErr_Clear();
  }
  return true;
}

#else

LazyImports::LazyImports() = default;
bool LazyImports::Resolve(const std::string&) { return true; }

#endif

}  // namespace pylaunch::engine
