#ifndef PYLAUNCH_LAUNCHER_ENGINE_SHIELD_STALE_MODULE_H_
#define PYLAUNCH_LAUNCHER_ENGINE_SHIELD_STALE_MODULE_H_

#include <Python.h>

namespace pylaunch::engine {

// Module objects that a thread holds although sys.modules no longer has them: it read them there
// while another thread was still importing them (PyImport_ImportModuleLevelObject).

// Makes `stale` answer for attributes it lacks as `module`, which stands in sys.modules as `name`
// now, would: by a `__getattr__` (PEP 562) in its dict, which asks its own former one first. A
// `module` that delegates to `stale` in turn gets an AttributeError, not a recursion. Does nothing
// if `stale` is no module. Keeps an exception that is set.
void ForwardAttributes(PyObject* stale, PyObject* module, PyObject* name);

// Makes `stale` as new as `fresh`, a module about to be executed, so that it can be executed in its
// place. False, nothing done, for what is more than a plain module.
bool MakeFresh(PyObject* stale, PyObject* fresh);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_SHIELD_STALE_MODULE_H_
