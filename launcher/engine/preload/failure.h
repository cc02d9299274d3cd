#ifndef PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_FAILURE_H_
#define PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_FAILURE_H_

#include <Python.h>

#include <string>

#include "launcher/contract/preload_plan.h"
#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine {

// Why an entry did not load, for people: what an error report needs.
struct Failure {
  bool missing =
      false;  // The module, the name or its backend is not there, as opposed to there but broken.
  bool interrupted = false;
  std::string cause;
  std::string hint;
  PyRef exception;  // What was raised, or would be; null if that cannot be had.
};

// Takes the current exception (and clears it). REQUIRES: PyErr_Occurred().
Failure TakeFailure(const PreloadEntry& entry);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_FAILURE_H_
