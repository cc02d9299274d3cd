#ifndef PYLAUNCH_LAUNCHER_ENGINE_EXIT_EXIT_FINALIZERS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_EXIT_EXIT_FINALIZERS_H_

#include "launcher/engine/exit/exit_state.h"

// Which preloaded objects have an end that somebody could notice, and whether it is ours to bring
// about (exit.cc tells when).

namespace pylaunch::engine {

// True if the code object that `attribute` of `owner` is comes from an installed library.
bool IsInstalledCode(PyObject* owner, const char* attribute);
// True for one of those that were there before the program: the collector may have moved it across
// the line.
bool WasBefore(PyObject* object);

// Of an object of the program that has a finalizer: true if nobody notices when that is called, and
// what it does is code of installed libraries. A file in memory, one closed or only read from, a
// generator or a `__del__` of a library in a class where all is a library's. Runs no code of the
// program's.
bool IsOursToFinalise(PyObject* object);

// Before the program: fills `exit`->noticed. REQUIRES: the fence is drawn.
void NoteNoticed(FastExit* exit);
// Likewise, for processes restored from an image of this one: what is to be found without a look at
// all objects.
void WatchBefore();
// In such a process: what resuming has made.
void WatchAfter();

// At the end: fills g_exit->finalizable_now and g_exit->streams. False if one of those found is not
// ours to finalise.
bool FindPreloadedWithFinalizer();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_EXIT_EXIT_FINALIZERS_H_
