#ifndef PYLAUNCH_LAUNCHER_ENGINE_SHIELD_MODULE_LOCKS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_SHIELD_MODULE_LOCKS_H_

#include <Python.h>

namespace pylaunch::engine {

// importlib's module locks (importlib._bootstrap._ModuleLock, one for each module that is being
// imported), looked at from outside. Threads as _thread.get_ident() names them; 0: none. Both need
// the GIL, keep it throughout, run no Python code and keep an exception that is set.

// The thread that holds the lock of the module `name`: it imports that.
unsigned long ModuleLockOwner(PyObject* name);

// The thread that holds the lock for which `thread` waits inside importlib's own code.
unsigned long AwaitedInImportlib(unsigned long thread);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_SHIELD_MODULE_LOCKS_H_
