#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMPORT_LOCK_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMPORT_LOCK_H_

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
//  - *Escape.* Who waits for a turn whose threads are all blocked goes a level down too, after 0.3
//  s
//    (0.6 s in all for one turn, then at once); also after 5 s in which nothing was imported.
//  - *Gone.* A turn whose thread has ended is over.
// There is so at most one turn a level, and each level lies inside a turn of the one above.

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

// Waits until the turn in which `spec` is being loaded is over, without taking one. kMine: it is
// over; kEscaped: wait as stock does. REQUIRES: !HaveImportTurn().
Turn AwaitLoad(PyObject* spec, WaitStory* story);

// Keeps an exception that is set.
void EndImportTurn();

// Tells those who wait that this thread's turn makes progress: a module was begun or finished.
void NoteImportProgress();

// Around a wait, inside one's turn, for a module that a thread of a higher level loads: whoever
// waits for this turn need not wait that long.
void SetImportTurnYields(bool yields);

// The group that a thread belongs to if the calling thread starts it now, and the new thread
// (pthread_t) put into it. REQUIRES: the new thread has not had the GIL yet.
void AdoptNewThread(unsigned long thread);

// In a forked child: forget all threads but this one. True if this thread had been started from
// inside an import that is now nobody's.
bool ResetImportLockInChild();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMPORT_LOCK_H_
