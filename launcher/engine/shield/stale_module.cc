#include "launcher/engine/shield/stale_module.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/shield/shield_report.h"

namespace pylaunch::engine {
namespace {

// The tuple that a forwarding `__getattr__` carries as `__self__`.
enum Part { kName, kFormer, kModule };

// Look-ups under way in this thread, as (that tuple, attribute). CPython calls the inner ones from
// the outer ones with nothing of ours.
thread_local std::vector<std::pair<PyObject*, PyObject*>> t_under_way;

bool IsUnderWay(PyObject* self, PyObject* attribute) {
  return std::any_of(t_under_way.begin(), t_under_way.end(), [&](const auto& entry) {
    return entry.first == self &&
           (entry.second == attribute || PyUnicode_Compare(entry.second, attribute) == 0);
  });
}

// What `from module import *` takes where there is no __all__.
PyObject* PublicNames(PyObject* module) {
  PyRef dict = PyRef::Steal(PyObject_GetAttrString(module, "__dict__"));
  PyRef keys = dict ? PyRef::Steal(PyMapping_Keys(dict.get())) : PyRef();
  PyRef names = PyRef::Steal(PyList_New(0));
  if (!keys || !names) return nullptr;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(keys.get()); ++i) {
    PyObject* key = PyList_GET_ITEM(keys.get(), i);
    if (!PyUnicode_Check(key) || PyUnicode_GET_LENGTH(key) == 0) continue;
    if (PyUnicode_READ_CHAR(key, 0) != '_' && PyList_Append(names.get(), key) < 0) return nullptr;
  }
  return names.release();
}

PyObject* AskFormer(PyObject* former, PyObject* attribute) {
  if (former == Py_None) return nullptr;
  PyObject* found = PyObject_CallOneArg(former, attribute);
  if (found == nullptr && PyErr_ExceptionMatches(PyExc_AttributeError)) PyErr_Clear();
  return found;
}

PyObject* AskModule(PyObject* self, PyObject* attribute) {
  PyObject* module = PyTuple_GET_ITEM(self, kModule);
  t_under_way.emplace_back(self, attribute);
  PyObject* found = PyObject_GetAttr(module, attribute);
  t_under_way.pop_back();
  if (found != nullptr || !PyErr_ExceptionMatches(PyExc_AttributeError)) return found;
  PyErr_Clear();
  return PyUnicode_CompareWithASCIIString(attribute, "__all__") == 0 ? PublicNames(module)
                                                                     : nullptr;
}

PyObject* GetAttribute(PyObject* self, PyObject* attribute) {
  PyObject* found = AskFormer(PyTuple_GET_ITEM(self, kFormer), attribute);
  if (found != nullptr || PyErr_Occurred()) return found;
  if (PyUnicode_Check(attribute) && !IsUnderWay(self, attribute)) {
    found = AskModule(self, attribute);
    if (found != nullptr) ReportForward(PyTuple_GET_ITEM(self, kName), attribute);
    if (found != nullptr || PyErr_Occurred()) return found;
  }
  return PyErr_Format(PyExc_AttributeError, "module '%S' has no attribute '%S'",
                      PyTuple_GET_ITEM(self, kName), attribute);
}

PyMethodDef kGetAttribute = {"__getattr__", GetAttribute, METH_O, nullptr};

// The tuple of a `__getattr__` of ours; null: not ours.
PyObject* ForwardingState(PyObject* function) {
  if (!PyCFunction_Check(function) || PyCFunction_GET_FUNCTION(function) != GetAttribute)
    return nullptr;
  return PyCFunction_GET_SELF(function);
}

bool Install(PyObject* stale, PyObject* module, PyObject* name) {
  PyObject* dict = PyModule_GetDict(stale);
  PyObject* former = PyDict_GetItemString(dict, "__getattr__");
  if (former == nullptr) former = Py_None;
  if (PyObject* state = ForwardingState(former)) {
    if (PyTuple_GET_ITEM(state, kModule) == module) return true;
    former = PyTuple_GET_ITEM(state, kFormer);
  }
  PyRef state = PyRef::Steal(PyTuple_Pack(3, name, former, module));
  PyRef function = state ? PyRef::Steal(PyCFunction_New(&kGetAttribute, state.get())) : PyRef();
  return function && PyDict_SetItemString(dict, "__getattr__", function.get()) == 0;
}

bool IsPlain(PyObject* module) {
  return Py_IS_TYPE(module, &PyModule_Type) && PyModule_GetDef(module) == nullptr;
}

}  // namespace

void ForwardAttributes(PyObject* stale, PyObject* module, PyObject* name) {
  if (!PyModule_Check(stale) || stale == module) return;
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  if (!Install(stale, module, name)) PyErr_Clear();
  PyErr_Restore(type, value, traceback);
}

bool MakeFresh(PyObject* stale, PyObject* fresh) {
  if (!IsPlain(stale) || !IsPlain(fresh)) return false;
  PyObject* dict = PyModule_GetDict(stale);
  // Keeps the old values alive, so that nothing runs while the dict is empty.
  PyRef old = PyRef::Steal(PyDict_Copy(dict));
  if (!old) return false;
  PyDict_Clear(dict);
  return PyDict_Update(dict, PyModule_GetDict(fresh)) == 0;
}

}  // namespace pylaunch::engine
