#ifndef PYLAUNCH_LAUNCHER_ENGINE_EXIT_EXIT_MODULES_H_
#define PYLAUNCH_LAUNCHER_ENGINE_EXIT_EXIT_MODULES_H_

#include "launcher/engine/exit/exit_state.h"

// Which modules CPython takes apart at the end, and which it never sees (exit.cc tells when).

namespace pylaunch::engine {

// __main__ is older than the line, but the program's.
void ReturnMain(PyObject* main);

// A module of ours in sys.modules, of which SortModules() sees to it that it is wiped last.
inline constexpr char kWipedLast[] = "pylaunch exit, after the program";

// Leaves in `modules` (sys.modules) what CPython shall take apart; the rest goes to
// g_exit->set_aside. `as_noted`: see PreloadedModules::Visit. False: all of it is as it was.
// REQUIRES: kWipedLast is in `modules`.
bool SortModules(PyObject* modules, PyObject* main, bool as_noted);

// As finalize_modules_clear_weaklist does it with those that SortModules() listed.
void WipeListed();
// _PyModule_ClearDict: names with one leading underscore first.
void WipeNames(PyObject* names);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_EXIT_EXIT_MODULES_H_
