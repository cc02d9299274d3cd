#ifndef PYLAUNCH_LAUNCHER_ENGINE_SHIELD_LAZY_LOADER_H_
#define PYLAUNCH_LAUNCHER_ENGINE_SHIELD_LAZY_LOADER_H_

#include <Python.h>

namespace pylaunch::engine {

// Makes importlib.util.LazyLoader safe for threads: the first look at a lazy module takes an import
// turn, and until the module has been executed it stays a lazy one for all other threads, which
// wait for that however long it takes (Insist in import_lock.h has the exceptions). Before
// 3.12.3 `_LazyModule.__getattribute__` made it an ordinary, empty module first (gh-114763); from
// then on it has a lock of its own, which can be taken in the opposite order to the import lock.
// `util` is that module, just imported. False with an exception set.
bool MakeLazyLoaderSafe(PyObject* util);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_SHIELD_LAZY_LOADER_H_
