#ifndef PYLAUNCH_LAUNCHER_ENGINE_EXIT_HELD_FOREVER_H_
#define PYLAUNCH_LAUNCHER_ENGINE_EXIT_HELD_FOREVER_H_

#include <Python.h>

#include <unordered_set>

#include "launcher/engine/exit/gc_fence.h"

namespace pylaunch::engine {

// Of the program's objects, those that CPython never frees, full teardown or not: what the names of
// an extension's static type lead to. Such a type lies in the library's data, no collection sees
// it, and nobody clears its dict (type_dealloc and _PyStaticType_Fini in Objects/typeobject.c are
// for others). So are the methods of all Cython's classes, with their closures and defaults.
//
// Followed are only the program's own objects, since preloaded ones may yet be wiped. REQUIRES: the
// program's modules have been wiped.
std::unordered_set<PyObject*> HeldForever(const GcFence& fence);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_EXIT_HELD_FOREVER_H_
