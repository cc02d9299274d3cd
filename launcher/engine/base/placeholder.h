#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_PLACEHOLDER_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_PLACEHOLDER_H_

#include <Python.h>

#include <string>

namespace pylaunch::engine {

// A stand-in for a class whose optional dependency is missing, e.g.
// transformers.utils.import_utils.DummyObject: its metaclass has that name, and it lists what it
// lacks in `_backends`. Returns those, comma separated, or an empty string for a real object.
// Clears any exception that it causes. REQUIRES: the GIL.
std::string MissingBackends(PyObject* object);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_PLACEHOLDER_H_
