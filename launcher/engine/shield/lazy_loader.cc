#include "launcher/engine/shield/lazy_loader.h"

#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/shield/import_lock.h"
#include "launcher/engine/shield/load_watch.h"

namespace pylaunch::engine {
namespace {

// CPython calls the slots of lazy modules with nothing of ours.
constinit struct {
  PyTypeObject* lazy_module = nullptr;  // importlib.util._LazyModule
  PyObject* getattribute = nullptr;     // its own __getattribute__, a Python function
  bool has_lock = false;                // CPython's fix (3.12.3) is in it.
} g;
constexpr char kLoading[] = "pylaunch_loading";

bool IsLazy(PyObject* module) { return Py_IS_TYPE(module, g.lazy_module); }

PyObject* PlainAttribute(PyObject* module, PyObject* name) {
  return PyModule_Type.tp_getattro(module, name);
}

// module.__spec__.loader_state, where LazyLoader keeps its own. Null with an exception set.
PyRef LoaderState(PyObject* module) {
  PyObject* spec = PyDict_GetItemString(PyModule_GetDict(module), "__spec__");
  return spec == nullptr ? PyRef() : PyRef::Steal(PyObject_GetAttrString(spec, "loader_state"));
}

int SetClass(PyObject* module, PyObject* type) {
  PyRef name = PyRef::Steal(PyUnicode_InternFromString("__class__"));
  return name ? PyObject_GenericSetAttr(module, name.get(), type) : -1;
}

// CPython's function, which sets `__class__` first and then executes the module: SetAttribute keeps
// that back, so that the class changes here, at the end, as with CPython's fix.
PyObject* LoadOldStyle(PyObject* module, PyObject* name) {
  PyRef state = LoaderState(module);
  if (!state || !PyDict_Check(state.get())) {
    PyErr_Clear();
    return PyObject_CallFunctionObjArgs(g.getattribute, module, name, nullptr);
  }
  if (PyDict_SetItemString(state.get(), kLoading, Py_None) < 0) return nullptr;
  PyObject* result = PyObject_CallFunctionObjArgs(g.getattribute, module, name, nullptr);
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyObject* plain = PyDict_GetItemString(state.get(), kLoading);
  if (IsLazy(module) && plain != nullptr && plain != Py_None) SetClass(module, plain);
  PyErr_Clear();
  PyErr_Restore(type, value, traceback);
  return result;
}

// From here to LoadBegins() the GIL is kept: no two threads come to load one module.
PyObject* Load(PyObject* module, PyObject* name) {
  // Loaded while this thread waited.
  if (!IsLazy(module)) return PyObject_GetAttr(module, name);
  // This thread is executing it, or it cannot wait for the one that is.
  if (LoadingThread(module) != 0) return PlainAttribute(module, name);
  LoadBegins(module);
  PyObject* result = g.has_lock
                         ? PyObject_CallFunctionObjArgs(g.getattribute, module, name, nullptr)
                         : LoadOldStyle(module, name);
  LoadEnds(module, module);
  NoteReleased(module);
  return result;
}

PyObject* GetAttribute(PyObject* module, PyObject* name) {
  const Held held = {LoadingThread, module};
  const Insist insist = g.has_lock ? Insist::kUntilDone : Insist::kLazy;
  WaitStory story;
  if (!HaveImportTurn() && AwaitHeld(held, insist, &story) == Turn::kInterrupted) return nullptr;
  if (TakeImportTurn(nullptr, &story) == Turn::kInterrupted) return nullptr;
  Turn turn = AwaitHeld(held, insist, &story);
  PyObject* result = turn == Turn::kInterrupted ? nullptr : Load(module, name);
  EndImportTurn();
  return AwaitOwed(result);
}

// Keeps `module.__class__ = ...` back while the module is being executed, but notes it.
PyObject* SetAttribute(PyObject* module, PyObject* args) {
  PyObject *name, *value;
  if (!PyArg_ParseTuple(args, "UO:__setattr__", &name, &value)) return nullptr;
  if (!g.has_lock && PyUnicode_CompareWithASCIIString(name, "__class__") == 0) {
    PyRef state = LoaderState(module);
    PyErr_Clear();
    if (state && PyDict_Check(state.get()) && PyDict_GetItemString(state.get(), kLoading)) {
      if (PyDict_SetItemString(state.get(), kLoading, value) < 0) return nullptr;
      Py_RETURN_NONE;
    }
  }
  if (PyObject_GenericSetAttr(module, name, value) < 0) return nullptr;
  Py_RETURN_NONE;
}

PyMethodDef kGetAttribute = {"__getattribute__", GetAttribute, METH_O,
                             "Trigger the load of the module and return the attribute."};
PyMethodDef kSetAttribute = {"__setattr__", SetAttribute, METH_VARARGS, nullptr};

// CPython's fix asks for loader_state['lock'].
bool MentionsLock(PyObject* function) {
  PyRef code = PyRef::Steal(PyObject_GetAttrString(function, "__code__"));
  PyRef constants = code ? PyRef::Steal(PyObject_GetAttrString(code.get(), "co_consts")) : PyRef();
  PyRef lock = PyRef::Steal(PyUnicode_FromString("lock"));
  return constants && lock && PySequence_Contains(constants.get(), lock.get()) == 1;
}

bool Put(PyMethodDef* def) {
  PyRef method = PyRef::Steal(PyDescr_NewMethod(g.lazy_module, def));
  return method && PyObject_SetAttrString(reinterpret_cast<PyObject*>(g.lazy_module), def->ml_name,
                                          method.get()) == 0;
}

}  // namespace

bool MakeLazyLoaderSafe(PyObject* util) {
  PyObject* type = PyObject_GetAttrString(util, "_LazyModule");
  if (type == nullptr) return false;
  g.lazy_module = reinterpret_cast<PyTypeObject*>(type);
  g.getattribute = PyObject_GetAttrString(type, "__getattribute__");
  if (g.getattribute == nullptr) return false;
  g.has_lock = MentionsLock(g.getattribute);
  if (PyErr_Occurred() || !Put(&kGetAttribute)) return false;
  return g.has_lock || Put(&kSetAttribute);
}

}  // namespace pylaunch::engine
