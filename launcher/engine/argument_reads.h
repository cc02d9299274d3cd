#ifndef PYLAUNCH_LAUNCHER_ENGINE_ARGUMENT_READS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_ARGUMENT_READS_H_

#include <Python.h>

#include "launcher/engine/py_ref.h"

namespace pylaunch::engine {

// While one lives, whoever uses sys.argv, in Python or by the abstract object interface, asks for
// facts of this start (read_record.h): whoever takes its first element for the program's name,
// others for the arguments, too. The list stays the same object, and is a plain one afterwards.
// One at a time. REQUIRES: the GIL.
class ArgumentReads {
 public:
  ArgumentReads();
  ~ArgumentReads();
  ArgumentReads(const ArgumentReads&) = delete;
  ArgumentReads& operator=(const ArgumentReads&) = delete;

 private:
  PyRef list_;
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_ARGUMENT_READS_H_
