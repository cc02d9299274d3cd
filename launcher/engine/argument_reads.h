#ifndef PYLAUNCH_LAUNCHER_ENGINE_ARGUMENT_READS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_ARGUMENT_READS_H_

#include <Python.h>

#include <utility>
#include <vector>

#include "launcher/engine/py_ref.h"

namespace pylaunch::engine {

// While one lives, whoever uses sys.argv or sys.orig_argv, in Python or by the abstract object
// interface, asks for facts of this start (read_record.h): whoever takes the first element for the
// program's name, others for the arguments, too. Whoever asks __main__ for its __file__ asks for
// the program's name. All three stay the same objects, and are plain ones afterwards. One at a
// time. REQUIRES: the GIL.
class ArgumentReads {
 public:
  ArgumentReads();
  ~ArgumentReads();
  ArgumentReads(const ArgumentReads&) = delete;
  ArgumentReads& operator=(const ArgumentReads&) = delete;

 private:
  void Record(PyObject* object, PyTypeObject* plain, PyTypeObject* recording);

  std::vector<std::pair<PyRef, PyTypeObject*>> recorded_;  // And what their types were.
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_ARGUMENT_READS_H_
