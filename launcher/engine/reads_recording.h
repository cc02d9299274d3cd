#ifndef PYLAUNCH_LAUNCHER_ENGINE_READS_RECORDING_H_
#define PYLAUNCH_LAUNCHER_ENGINE_READS_RECORDING_H_

#include <Python.h>

#include <cstddef>

#include "launcher/engine/py_ref.h"

namespace pylaunch::engine {

// While one of these lives, what is read of the environment is added to PreloadReads() as reads of
// `entry`: by C through getenv(), by Python through os.environ, os.environb, os.getenv() and
// os.getenvb(). os.environ stays the object that it is, of its own class, with its own dict: only
// the function in its attribute `encodekey` (Lib/os.py, class _Environ), which translates a name
// for every look-up, is another one meanwhile, and `decodekey`, which translates the names that
// iterating yields. Afterwards they are as before, also for who took a reference in between.
// One at a time. REQUIRES: the GIL.
class ReadsRecording {
 public:
  explicit ReadsRecording(size_t entry);
  ~ReadsRecording();
  ReadsRecording(const ReadsRecording&) = delete;
  ReadsRecording& operator=(const ReadsRecording&) = delete;

 private:
  // One attribute of one of the two mappings.
  struct Hooked {
    PyRef mapping;
    const char* attribute = nullptr;
    PyRef hook;
    PyRef original;
  };
  void Hook(PyObject* mapping, const char* attribute, PyMethodDef* hook);

  Hooked hooked_[4];
  size_t count_ = 0;
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_READS_RECORDING_H_
