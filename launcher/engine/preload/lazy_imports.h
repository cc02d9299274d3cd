#ifndef PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_LAZY_IMPORTS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_LAZY_IMPORTS_H_

#include <Python.h>

#include <string>
#include <unordered_set>

#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine {

// The lazy imports that loading leaves pending (PEP 810, from CPython 3.15 on; the standard library
// has some): a module's name is bound to a types.LazyImportType until somebody looks at it, and the
// import happens there and then, on whatever thread that is. With the GIL.
class LazyImports {
 public:
  // Remembers which modules there are.
  LazyImports();

  // Has every pending import happen in the modules that came since, in those that this loads in
  // turn, and in `module`. One that fails stays pending, for whoever looks to meet the error. False
  // with an exception set: interrupted.
  bool Resolve(const std::string& module);

 private:
  void Visit(PyObject* module, PyObject* pending);
  bool Take(PyObject* pending);

  std::unordered_set<PyObject*> known_;  // By address: they stay in sys.modules.
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_LAZY_IMPORTS_H_
