#ifndef PYLAUNCH_LAUNCHER_ENGINE_EXIT_MODULE_INDEX_H_
#define PYLAUNCH_LAUNCHER_ENGINE_EXIT_MODULE_INDEX_H_

#include <Python.h>

#include <vector>

#include "launcher/engine/exit/gc_fence.h"

namespace pylaunch::engine {

// CPython's list of the modules that PyState_FindModule() finds by their definition's index
// (modules_by_index of the interpreter; _PyInterpreterState_ClearModules in Python/pystate.c, from
// 3.12 on _PyImport_ClearModulesByIndex in Python/import.c). At the end CPython writes to the
// definition of each of them, and to the module: in a process restored from an image that copies
// a page of every extension and one of its module. With the interpreter's lock held.
class ModuleIndex {
 public:
  // Looks for that list among what was there before the line. Without it, Forget() does nothing.
  void Note(const GcFence& fence);
  // Takes out what was in it when it was noted, so that the end passes it over: these modules live
  // for ever. Nobody may look for one of them any more.
  void Forget();

 private:
  PyObject* list_ = nullptr;
  std::vector<PyObject*> noted_;  // Its modules, by address only; null where there is none.
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_EXIT_MODULE_INDEX_H_
