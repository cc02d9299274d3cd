#ifndef PYLAUNCH_LAUNCHER_ENGINE_RECORD_ARGUMENT_READS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_RECORD_ARGUMENT_READS_H_

#include <Python.h>

#include <utility>
#include <vector>

#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine {

// While one lives, whoever uses or changes sys.argv, in Python or by the abstract object interface,
// asks for facts of this start (file_record.h): whoever takes the first element for the program's
// name, others for the arguments, too. Whoever uses sys.orig_argv asks for Python's command line,
// whoever asks __main__ for its __file__ for the program's name. All three stay the same objects,
// and are plain ones afterwards. One in a process's life. REQUIRES: the GIL.
class ArgumentReads {
 public:
  ArgumentReads();
  ~ArgumentReads();
  ArgumentReads(const ArgumentReads&) = delete;
  ArgumentReads& operator=(const ArgumentReads&) = delete;

 private:
  void Record(PyObject* object, PyTypeObject* plain, PyTypeObject* recording);

  std::vector<std::pair<PyRef, PyTypeObject*>> recorded_;  // And what their types were.
  std::vector<PyRef> before_;                              // Copies of the lists.
};

// The list that holds the words of this start's sys.`name` ("argv", "orig_argv") and so, in a
// restored process, shall hold those of that one: what was there when preloading began, even where
// sys has another one by now. Null where preloading has changed what is in it: what it made of it
// stays, as the program would find it, for it is made of facts of the image. Borrowed.
PyObject* ListOfThisStart(const char* name);

// Lets go of these lists, so that they end when the program's own end lets go of them.
void ForgetListsOfThisStart();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_RECORD_ARGUMENT_READS_H_
