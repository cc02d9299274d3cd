#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMAGING_LIVE_OBJECTS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMAGING_LIVE_OBJECTS_H_

#include <Python.h>

namespace pylaunch::engine {

// A new reference to a function of Python: `live_objects(type, ...)` gives a list of all objects
// that the collector tracks and whose type is one of these, as a choice among gc.get_objects()
// would; only that gc.get_objects() writes a reference count into each object of the process, so
// that a forked process comes to own every page of them. Null: an exception is set. Needs the GIL.
PyObject* NewLiveObjects();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMAGING_LIVE_OBJECTS_H_
