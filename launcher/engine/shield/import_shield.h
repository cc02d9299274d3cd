#ifndef PYLAUNCH_LAUNCHER_ENGINE_SHIELD_IMPORT_SHIELD_H_
#define PYLAUNCH_LAUNCHER_ENGINE_SHIELD_IMPORT_SHIELD_H_

#include <Python.h>

namespace pylaunch::engine {

// Makes first imports by several threads safe (docs/import-races.md): CPython 3.10 to 3.15 hands
// out half-built and replaced modules. Always on. builtins.__import__ stays CPython's, and modules
// that are imported already never come here: import.c looks up `_find_and_load` and
// `_lock_unlock_module` of `_frozen_importlib` by name when a module is missing or half-built, and
// those, with a few they call, are replaced. REQUIRES: the main interpreter, no other thread, no
// module imported from sys.path yet. False with an exception set; then imports are stock's.
// Reading order: this one's .cc, import_lock, import_turns, load_watch, stale_module, births,
// lazy_loader.
bool InstallImportShield(bool explain);

// From now on the modules in `modules`, a dict that is kept, are found though sys.modules lacks
// them, as long as there is anything in sys.modules. For the end of the process, when CPython takes
// one module after the other out of there: finalizers find those that it has not come to.
void AlsoFind(PyObject* modules);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_SHIELD_IMPORT_SHIELD_H_
