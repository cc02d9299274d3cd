#ifndef PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_SURROUNDINGS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_SURROUNDINGS_H_

#include <Python.h>

#include <string>
#include <utility>
#include <vector>

#include "launcher/contract/preload_plan.h"
#include "launcher/engine/base/gc_state.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/start/interpreter.h"

namespace pylaunch::engine {

// True for a folder or zip file that can be run. Leaves no trace in sys.path_importer_cache of what
// is none.
bool IsImportable(PyObject* path);

// Each of these puts something in place for as long as it lives. Their destructors leave no
// exception behind.

// sys.path[0] as Py_RunMain will set it (Modules/main.c, pymain_run_python): the script's folder,
// the folder or zip file that is run, '' or the working directory.
class ProgramPath {
 public:
  explicit ProgramPath(const Program& program);
  ~ProgramPath();
  ProgramPath(const ProgramPath&) = delete;
  ProgramPath& operator=(const ProgramPath&) = delete;

 private:
  PyRef entry_;
};

// No automatic full collection: importing makes hundreds of thousands of objects that live on, and
// going through all of them again and again takes a sixth of the time. The young are collected as
// ever, which takes little, frees garbage, and untracks what needs no tracking, so that whoever
// goes through all of them later (at exit: three times) finds fewer. What Python can see of the
// collector stays as it is; a module that changes it is obeyed. In the end, as if a full one had
// just ended.
class CollectionHeldBack {
 public:
  CollectionHeldBack();
  ~CollectionHeldBack();
  CollectionHeldBack(const CollectionHeldBack&) = delete;
  CollectionHeldBack& operator=(const CollectionHeldBack&) = delete;

 private:
  gc::State state_;            // Nothing: nothing to put back.
  Py_ssize_t long_lived_ = 0;  // Before.
};

// Environment variables of one entry, through os.environ so that Python and C code both see them.
class EntryEnvironment {
 public:
  explicit EntryEnvironment(const std::vector<EnvSetting>& settings);
  ~EntryEnvironment();
  EntryEnvironment(const EntryEnvironment&) = delete;
  EntryEnvironment& operator=(const EntryEnvironment&) = delete;

 private:
  PyRef environ_;
  std::vector<std::pair<PyRef, PyRef>> before_;  // Name and value; a null value: was unset.
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_SURROUNDINGS_H_
