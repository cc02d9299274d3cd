#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_DICT_VERSION_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_DICT_VERSION_H_

#include <Python.h>

#include <cstdint>

namespace pylaunch::engine {

// Whether a dict has been changed since it was last looked at. Up to 3.13 each dict carries a
// number that it changes with every change (PEP 509). From 3.14 on that is gone: a dict is followed
// (PyDict_Watch) until its first change. One count for all dicts. With the GIL, in the main
// interpreter.

// From now on the next change of `dict` gives it a new number. Up to 3.13 every change does.
void FollowDict(PyObject* dict);
// The same for those that were followed and have changed since. Looks at no other dict.
void FollowChangedDicts();

// The number of `dict`, which is followed, or was when it went. It is greater than any that
// CurrentDictVersion() gave before the last change that was followed. From 3.14 on nothing is
// looked at but memory of ours.
uint64_t DictVersion(PyObject* dict);

// What a dict gets that is changed now. 0: dicts of this CPython do not tell when they change.
uint64_t CurrentDictVersion();

// Where a change of `dict` shows in memory; null: in memory of ours alone.
const void* DictVersionPlace(PyObject* dict);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_DICT_VERSION_H_
