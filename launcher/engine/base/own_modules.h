#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_OWN_MODULES_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_OWN_MODULES_H_

#include <Python.h>

#include <string>

#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine {

// Modules that ours needs itself. PyImport_ImportModule() is not for that: it goes by the program's
// folder, which may hold a file of that name, and by `builtins.__import__`, which a program may
// have replaced. Both return an empty reference, and may leave an exception, if there is none.
// REQUIRES: the GIL.

// The module `name` if it is loaded. Nothing is imported.
inline PyRef LoadedModule(const char* name) {
  PyRef text = PyRef::Steal(PyUnicode_FromString(name));
  return text ? PyRef::Steal(PyImport_GetModule(text.get())) : PyRef();
}

// One that is compiled into CPython: nothing on sys.path comes before it
// (importlib.machinery.BuiltinImporter).
inline PyRef BuiltinModule(const char* name) {
  if (PyRef loaded = LoadedModule(name)) return loaded;
  if (PyErr_Occurred()) return PyRef();
  return PyRef::Steal(PyImport_ImportModuleLevel(name, nullptr, nullptr, nullptr, 0));
}

// The standard library's folder with '/' behind it, or an empty string. `os` may be frozen, or not
// loaded; `encodings` is loaded from a file before anything else.
inline std::string StandardLibrary() {
  PyRef encodings = LoadedModule("encodings");
  PyRef file =
      encodings ? PyRef::Steal(PyObject_GetAttrString(encodings.get(), "__file__")) : PyRef();
  std::string path;
  FileSystemBytes(file.get(), &path);
  PyErr_Clear();
  path.resize(path.rfind('/') + 1);  // lib/encodings/__init__.py
  if (path.empty()) return path;
  path.pop_back();
  path.resize(path.rfind('/') + 1);
  return path;
}

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_OWN_MODULES_H_
