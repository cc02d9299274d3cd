#ifndef PYLAUNCH_LAUNCHER_ENGINE_EXIT_OWN_TABLES_H_
#define PYLAUNCH_LAUNCHER_ENGINE_EXIT_OWN_TABLES_H_

#include <Python.h>

#include <vector>

#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/exit/gc_fence.h"

namespace pylaunch::engine {

// Tables of CPython's own that nobody else refers to and whose end nobody notices, but which at the
// end let go of their members one by one: what an image's processes would copy a page for, each.
// Whoever keeps a reference keeps the members as they are. With the interpreter's lock held.
//   - the names of `builtins` as they were at the start (builtins_copy in PyInterpreterState), and
//     any other copy of them among what was there before the line;
//   - the definitions of extension modules by file and name (`extensions` in Python/import.c of
//     3.10 and 3.11; 3.12 and 3.13 have no dict there).
std::vector<PyRef> OwnTables(const GcFence& fence, PyObject* builtins_names);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_EXIT_OWN_TABLES_H_
