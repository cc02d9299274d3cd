#ifndef PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_HALF_IMPORTED_H_
#define PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_HALF_IMPORTED_H_

#include <Python.h>

#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine {

// What a failed import leaves in sys.modules. importlib removes the module whose body raised, but
// not the submodules that the body had already loaded: those hang on a package object that is gone,
// and a second try would find them instead of loading them under the new one.
class HalfImported {
 public:
  // Remembers which modules there are.
  HalfImported();

  // Removes the modules that came since and whose package is missing. False, and nothing is
  // removed, if an extension module is among them: many cannot be initialised twice in a process.
  bool Remove() const;

 private:
  PyRef before_;  // A copy of sys.modules; null if it could not be made.
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_HALF_IMPORTED_H_
