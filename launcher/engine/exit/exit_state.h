#ifndef PYLAUNCH_LAUNCHER_ENGINE_EXIT_EXIT_STATE_H_
#define PYLAUNCH_LAUNCHER_ENGINE_EXIT_EXIT_STATE_H_

#include <Python.h>

#include <string>
#include <unordered_map>
#include <vector>

#include "image/written_pages.h"
#include "launcher/engine/base/preloaded_modules.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/exit/gc_fence.h"
#include "launcher/engine/exit/module_index.h"
#include "launcher/engine/exit/quiet_types.h"

// What the files exit*.cc have in common; nobody else's. With the interpreter's lock held.

namespace pylaunch::engine {

// Lives from ArmFastExit to the end of the process, as do its references: what it holds must
// outlive the interpreter.
struct FastExit {
  GcFence fence;
  bool explain = false;
  bool full = false;    // What was hidden for the program's time is given back at its end.
  std::string library;  // The standard library's folder, with '/' behind.
  PreloadedModules preloaded;
  PyObject* sys_names = nullptr;
  PyObject* builtins_names = nullptr;
  PyRef callbacks;   // gc.callbacks
  PyRef get_debug;   // gc.get_debug
  PyRef at_exit;     // atexit.register
  PyRef get_signal;  // _signal.getsignal
  PyRef bytes_io;    // io.BytesIO
  PyRef string_io;   // io.StringIO
  PyRef text_io;     // io.TextIOWrapper
  PyRef writer;      // io.BufferedWriter
  PyRef reader;      // io.BufferedReader
  PyRef random;      // io.BufferedRandom
  PyRef file_io;     // io.FileIO
  PyRef warnings;    // The module, if it has been preloaded: the program may look whether it is.
  PyRef thread_locals;
  PyRef interactive_hook;  // What stood in sys where our capsule stands.

  // Objects from before the line whose end somebody could notice. Where they are hidden from the
  // start none: what is hidden stays before the line.
  struct Noticed {
    PyTypeObject* type;
    PyRef reference;  // A weak one, where objects of this type have such; else it may be gone.
  };
  std::unordered_map<PyObject*, Noticed> noticed;
  QuietTypes quiet_types;
  // Weak references to these, and to classes that may still be given a __del__, so that nobody has
  // to look at all objects in the end, of an image maybe a million that only its file holds.
  // Classes have theirs already, for __subclasses__().
  struct Watched {
    PyObject* object;  // By address only.
    PyRef reference;
    bool finalizable;
  };
  std::vector<Watched> watched;
  bool all_watched = false;
  bool resumed = false;         // This process is restored from an image.
  image::WrittenPages written;  // Where that is so.
  bool judged = false;          // What becomes of survivors is decided.
  bool nothing_to_say = false;  // What Py_FinalizeEx ends with, nobody would notice.
  ModuleIndex module_index;
  std::vector<PyRef> tables;  // OwnTables() and KeepFirstDicts()

  // What was in sys.modules, in its order. With a reference if it is left to CPython to wipe.
  struct Listed {
    PyObject* module;
    PyRef reference;
  };
  std::vector<Listed> listed;
  PyObject* set_aside = nullptr;         // The preloaded modules that are not wiped: a dict.
  std::vector<PyRef> held;               // Those that are wiped and live on.
  std::vector<PyRef> finalizable_now;    // Preloaded objects that we shall finalise.
  std::vector<PyObject*> program_dicts;  // The program's modules' names, by address only.
  std::vector<PyRef> streams;            // sys.__stdin__, __stdout__, __stderr__
};

// Set by ArmFastExit(). Global: at the end CPython comes to us by destructors of capsules, a signal
// and methods, which bring nothing of ours along.
extern FastExit* g_exit;

// Into CPython's hands, what was kept from them; before anything has been set aside.
void GiveBack();

inline bool HasFinalizer(PyObject* object) {
  return Py_TYPE(object)->tp_finalize != nullptr && !PyObject_GC_IsFinalized(object);
}

inline bool IsHeapType(PyObject* object) {
  return PyType_Check(object) &&
         (reinterpret_cast<PyTypeObject*>(object)->tp_flags & Py_TPFLAGS_HEAPTYPE) != 0;
}

// Of a type: whether its instances have one.
inline bool GivesFinalizer(PyObject* type) {
  return reinterpret_cast<PyTypeObject*>(type)->tp_finalize != nullptr;
}

// A collection without what gc.callbacks has: CPython has none here.
void CollectAlone();

inline bool IsExactly(PyObject* object, const PyRef& type) {
  return reinterpret_cast<PyObject*>(Py_TYPE(object)) == type.get();
}

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_EXIT_EXIT_STATE_H_
