#ifndef PYLAUNCH_LAUNCHER_ENGINE_WRAP_H_
#define PYLAUNCH_LAUNCHER_ENGINE_WRAP_H_

#include <Python.h>

namespace pylaunch::engine {

// A function of a module, and the C function of ours that stands in its place. Never freed.
struct Wrapped {
  PyObject* original = nullptr;  // Null: not in place.
  PyMethodDef def = {};

  // Puts `function` where `module.name` is, with the original's name, doc, `__self__` and
  // `__module__`. False with an exception set.
  bool Install(PyObject* module, const char* name, _PyCFunctionFastWithKeywords function);

  PyObject* Call(PyObject* const* args, Py_ssize_t count, PyObject* keywords) const {
    return PyObject_Vectorcall(original, args, static_cast<size_t>(count), keywords);
  }
};

// False in sub-interpreters, which have importlib and thread modules of their own, and to which
// nothing of the main one's locks applies.
inline bool InMainInterpreter() { return PyInterpreterState_Get() == PyInterpreterState_Main(); }

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_WRAP_H_
