#ifndef PYLAUNCH_LAUNCHER_ENGINE_SHIELD_IMPORT_LOCK_H_
#define PYLAUNCH_LAUNCHER_ENGINE_SHIELD_IMPORT_LOCK_H_

#include <Python.h>
#include <sys/types.h>

#include <memory>

namespace pylaunch::engine {

// The lock by which threads take turns at importing: one thread imports at a time, from its
// outermost import statement to the end of that. Taken before any of importlib's module locks, so
// that those never see two threads at odds. Re-entrant. All functions need the GIL.
//
// One lock alone would hang whatever waits, inside a module body, for another thread that imports.
// So (docs/import-races.md tells why each):
//  - *Groups.* A thread started while its creator imports belongs to that turn: it contends for the
//    turn's own lock, one level down, at once. When the turn ends, its threads belong to the level
//    above, and so does a turn that one of them is in the middle of.
//  - *Escape.* Who waits for a turn whose threads are all blocked goes a level down too, after
//    0.3 s (0.6 s in all for one turn, then at once); also after 5 s in which nothing was imported.
//  - *Gone.* A turn whose thread has ended is over.
// There is so at most one turn a level, and each level lies inside a turn of the one above.
//
// Who has gone ahead still waits for what others are in the middle of (AwaitHeld), and where that
// goes in a circle, the thread of the lowest level goes on, as if the highest had come that far
// alone.

struct ThreadGroup;
using GroupRef = std::shared_ptr<ThreadGroup>;

enum class Turn { kMine, kEscaped, kInterrupted };

// What a wait was like, for --explain.
struct WaitStory {
  bool waited = false;
  bool gave_up = false;
  pid_t holder = 0;
  int64_t nanoseconds = 0;
  char holder_module[160] = "";
};

// True while the calling thread has its turn.
bool HaveImportTurn();

// Waits for the calling thread's turn and takes it, at a lower level if need be, for the import of
// `name` (null: for something else). kMine: EndImportTurn() must follow; kInterrupted: a signal
// handler raised, as it can while any lock is waited for.
Turn TakeImportTurn(PyObject* name, WaitStory* story);

// The same, but kEscaped rather than a turn at a lower level, and no signal handler runs.
Turn TakeImportTurnForFork(WaitStory* story);

// What one thread at a time is in the middle of: a module that it imports, a lazy one that it
// executes.
struct Held {
  unsigned long (*holder)(PyObject* key);  // That thread, as pthread_self() names it; 0: none.
  PyObject* key;
};

// How long to wait for another thread that holds something.
enum class Insist {
  // As stock does: until it is done. Only a circle of such waits ends it.
  kUntilDone,
  // Where stock would go on at once with half a module: until it is done as well, unless the holder
  // itself waits for something that this process may have to do (kWaiting of LookForEnd()), and a
  // minute at most without any progress. In that state, a package is waited for...
  kPackage,  // ...0.3 s, and not at all by a thread that was started inside its import.
  kOwed,     // ...5 s, and 0.3 s by such a thread.
  kLazy,     // The same, and no limit without progress: CPython's own fix has none.
};

// Waits, in a turn or without one, while another thread that has a turn holds `held`. kMine: none
// does any more; kEscaped: one still does, but this thread has to go on; kInterrupted as above.
Turn AwaitHeld(const Held& held, Insist insist, WaitStory* story);

// Tells that this thread no longer holds what `key` stands for.
void NoteReleased(PyObject* key);

// After the end of a turn: waits for what AwaitHeld() could not wait for because of a circle.
// `result`, or null with an exception set if a signal handler raised. Null: nothing to wait for.
PyObject* AwaitOwed(PyObject* result);

// True if another thread than this one has a turn.
bool OthersImport();

// Waits for the end of the turn in which the half-built module `name` is being loaded, without
// taking one; `spec` is the module's. At least for the module's own end. As AwaitHeld().
// REQUIRES: !HaveImportTurn().
Turn AwaitLoad(const Held& held, PyObject* spec, WaitStory* story);

// Keeps an exception that is set.
void EndImportTurn();

// Tells those who wait that this thread's turn makes progress: a module was begun or finished.
void NoteImportProgress();

// The group that a thread belongs to if the calling thread starts it now, and the new thread
// (pthread_t) put into it. REQUIRES: the new thread has not had the GIL yet.
void AdoptNewThread(unsigned long thread);

// In a forked child: forget all threads but this one. True if this thread had been started from
// inside an import that is now nobody's.
bool ResetImportLockInChild();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_SHIELD_IMPORT_LOCK_H_
