#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_WRAP_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_WRAP_H_

#include <Python.h>

namespace pylaunch::engine {

// A function of a module, and the C function of ours that stands in its place. Never freed.
struct Wrapped {
  PyObject* original = nullptr;  // Null: not in place.
  PyMethodDef def = {};

  // Puts `function` where `module.name` is, with the original's name, doc, `__self__` and
  // `__module__`. False with an exception set.
  bool Install(PyObject* module, const char* name, _PyCFunctionFastWithKeywords function);

  // Up to 3.11 C calls and Python calls count towards one recursion limit; the level that calling
  // us took is lent to the original, so that deep recursion ends where it does under stock.
  PyObject* Call(PyObject* const* args, Py_ssize_t count, PyObject* keywords) const {
#if PY_VERSION_HEX < 0x030C0000
    Py_LeaveRecursiveCall();
#endif
    PyObject* result = PyObject_Vectorcall(original, args, static_cast<size_t>(count), keywords);
#if PY_VERSION_HEX < 0x030C0000
    // Cannot fail: this level was granted before.
    if (Py_EnterRecursiveCall("") != 0 && result != nullptr) PyErr_Clear();
#endif
    return result;
  }
};

// A built-in function of no argument or one, whose calls go to a C function of ours for a while.
// Its object stays what and where it is, so that whoever keeps it keeps what he would have without
// us.
class Diverted {
 public:
  // `function` is called as the original is. False if `module.name` is no such function.
  bool Install(PyObject* module, const char* name, PyCFunction function);
  void Remove();

  PyObject* Call(PyObject* self, PyObject* argument) const {
    return original_->ml_meth(self, argument);
  }

 private:
  PyCFunctionObject* function_ = nullptr;  // Null: not in place. Never freed.
  PyMethodDef* original_ = nullptr;
  PyMethodDef def_ = {};
};

// False in sub-interpreters, which have importlib and thread modules of their own, and to which
// nothing of the main one's locks applies.
inline bool InMainInterpreter() { return PyInterpreterState_Get() == PyInterpreterState_Main(); }

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_WRAP_H_
