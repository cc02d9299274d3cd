#ifndef PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_MAIN_MODULE_H_
#define PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_MAIN_MODULE_H_

#include <Python.h>

#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/start/interpreter.h"

namespace pylaunch::engine {

// While one lives, modules find of the program what its own imports would: `__main__.__file__`, by
// which libraries tell a program from a session; with -m `__main__.__spec__`, by which argparse
// names the program from 3.14 on, and in sys.argv[0] the module's path, which runpy puts there
// before the module runs (Lib/runpy.py, _run_module_as_main). The packages above the module, which
// stock imports before that, find the path, too. Where the module lies is asked of sys.meta_path
// without importing those packages; if it cannot be found so (in a namespace package within another
// one, or where a package changes its `__path__`), all are as the interpreter left them.
//
// What modules make of sys.argv[0] meanwhile, the program finds, though runpy comes later.
// The destructor leaves no exception behind. REQUIRES: a ProgramPath.
class MainModule {
 public:
  explicit MainModule(const Program& program);
  ~MainModule();
  MainModule(const MainModule&) = delete;
  MainModule& operator=(const MainModule&) = delete;

 private:
  PyRef spec_;    // With -m: what `__main__.__spec__` is meanwhile...
  PyRef former_;  // ...and was.
  PyRef file_;    // Null: none is known.
  PyRef list_;    // sys.argv, if its first item is the file meanwhile...
  PyRef option_;  // ...and was this, "-m".
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_MAIN_MODULE_H_
