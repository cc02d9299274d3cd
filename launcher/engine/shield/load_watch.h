#ifndef PYLAUNCH_LAUNCHER_ENGINE_SHIELD_LOAD_WATCH_H_
#define PYLAUNCH_LAUNCHER_ENGINE_SHIELD_LOAD_WATCH_H_

#include <Python.h>

namespace pylaunch::engine {

// Modules that one thread is loading while others already hold them. All functions need the GIL.

// A load is the execution of one spec (importlib._bootstrap._load_unlocked) by this thread. A lazy
// module (lazy_loader.h) stands for its own spec.
void LoadBegins(PyObject* spec);
// `result` is what stands in sys.modules now; null, with an exception set that is kept: the load
// failed. Who watches, and holds another object than `result`, has that forward to it from now on.
void LoadEnds(PyObject* spec, PyObject* result);

// True if another thread than this one is loading `spec`.
bool IsLoadedElsewhere(PyObject* spec);
// The thread that is (pthread_self()), this one or another; 0: none.
unsigned long LoadingThread(PyObject* spec);

// Another thread loads `spec`, and this one goes on with `module`, which it has read from
// sys.modules. REQUIRES: IsLoadedElsewhere(spec).
void Watch(PyObject* spec, PyObject* module);
// Ends one Watch(). True if the load has failed.
bool Unwatch(PyObject* spec);

// In a forked child.
void ForgetOtherThreadsLoads();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_SHIELD_LOAD_WATCH_H_
