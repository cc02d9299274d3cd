#include "launcher/engine/imaging/finalizer_registry.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine {
namespace {

using Marked = std::pair<long, PyRef>;

// The names of a registry's values' attributes.
struct Names {
  PyRef atexit = PyRef::Steal(PyUnicode_InternFromString("atexit"));
  PyRef index = PyRef::Steal(PyUnicode_InternFromString("index"));
};

// Whether such a value says that its finalizer is to be called; -1: with an error set.
int IsMarked(PyObject* info, const Names& names) {
  PyRef atexit = PyRef::Steal(PyObject_GetAttr(info, names.atexit.get()));
  return atexit ? PyObject_IsTrue(atexit.get()) : -1;
}

// -1 with an error set, or the number of that finalizer.
long IndexOf(PyObject* info, const Names& names) {
  PyRef index = PyRef::Steal(PyObject_GetAttr(info, names.index.get()));
  return index ? PyLong_AsLong(index.get()) : -1;
}

PyObject* InOrder(std::vector<Marked> marked) {
  std::stable_sort(marked.begin(), marked.end(),
                   [](const Marked& a, const Marked& b) { return a.first < b.first; });
  PyRef list = PyRef::Steal(PyList_New(0));
  for (const auto& [index, finalizer] : marked) {
    if (!list || PyList_Append(list.get(), finalizer.get()) < 0) return nullptr;
  }
  return list.release();
}

PyObject* MarkedForExit(PyObject*, PyObject* registry) {
  if (!PyDict_Check(registry)) return PyErr_Format(PyExc_TypeError, "a dict is expected");
  const Names names;
  if (!names.atexit || !names.index) return nullptr;
  std::vector<Marked> found;
  Py_ssize_t position = 0;
  PyObject *finalizer, *info;
  while (PyDict_Next(registry, &position, &finalizer, &info)) {
    const int marked = IsMarked(info, names);
    const long index = marked > 0 ? IndexOf(info, names) : 0;
    if (marked < 0 || (index == -1 && PyErr_Occurred() != nullptr)) return nullptr;
    if (marked > 0) found.emplace_back(index, PyRef::Share(finalizer));
  }
  return InOrder(std::move(found));
}

PyMethodDef kMarkedForExit = {"marked_for_exit", MarkedForExit, METH_O, nullptr};

}  // namespace

PyObject* NewMarkedForExit() { return PyCFunction_New(&kMarkedForExit, nullptr); }

}  // namespace pylaunch::engine
