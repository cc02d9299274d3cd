#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMAGING_FINALIZER_REGISTRY_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMAGING_FINALIZER_REGISTRY_H_

#include <Python.h>

namespace pylaunch::engine {

// A function of Python's for resume.py, `marked_for_exit(registry)`: what the class method
// weakref.finalize._select_for_exit returns (Lib/weakref.py, the same in 3.10 to 3.13): of
// weakref.finalize's registry the finalizers that are to be called at exit, oldest first. Python's
// own takes a reference to every one, which copies a page for most of them in a process restored
// from an image; this one only looks. Null without memory, with an error set.
PyObject* NewMarkedForExit();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMAGING_FINALIZER_REGISTRY_H_
