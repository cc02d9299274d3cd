#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_LOAD_HOOK_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_LOAD_HOOK_H_

#include <Python.h>

#include <cstdint>

namespace pylaunch::engine {

// A load is the execution of one spec by importlib._bootstrap._load_unlocked, in whose place a
// function of ours stands as soon as somebody listens. On the path of every import. Loads of
// sub-interpreters, which have an importlib of their own, are not told.
struct LoadListener {
  // May be null. No exception is set, nor may one be left.
  intptr_t (*begins)(PyObject* spec);
  // `module`: null with an exception set, which must stay, if the load failed; else none may be
  // left. `begun`: what `begins` returned. Not called where the thread ends during the load.
  void (*ends)(PyObject* spec, PyObject* module, intptr_t begun);
};

// Listeners are layers: who comes later is told of the beginning earlier, and of the end later. For
// good. False with an exception set where importlib is not the one we know. REQUIRES: the GIL.
bool ListenToLoads(const LoadListener& listener);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_LOAD_HOOK_H_
