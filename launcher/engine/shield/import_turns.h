#ifndef PYLAUNCH_LAUNCHER_ENGINE_SHIELD_IMPORT_TURNS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_SHIELD_IMPORT_TURNS_H_

#include <Python.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "launcher/engine/shield/import_lock.h"
#include "launcher/engine/shield/thread_activity.h"

// The turns and levels of import_lock.h as they stand; how threads wait for them is in
// import_lock.cc, for which this is. All of it needs the GIL, but for what says otherwise.

namespace pylaunch::engine {

struct ImportTurn {
  ThreadGroup* group = nullptr;
  ThreadId owner;
  unsigned long thread = 0;  // The same, as pthread_self() names it.
  int depth = 1;
  PyObject* name = nullptr;
  Held awaits = {};          // What its thread waits for in AwaitHeld(); no holder: nothing.
  GroupRef children;         // The threads started, or gone ahead, during this turn.
  int64_t dependent = 0;     // The longest that AwaitHeld() has waited in vain.
  bool endless = false;      // Has made no progress for kNoProgressOnOwn.
  int64_t blocked = 0;       // What waiters have waited in vain, each moment counted once...
  int64_t blocked_seen = 0;  // ...up to this moment.
  // Read by waiters without the GIL.
  std::atomic<bool> over{false};
  std::atomic<bool> open{false};  // Nobody waits for it any more.
  std::atomic<bool> yields{false};
  std::atomic<uint32_t> progress{0};
};
using TurnRef = std::shared_ptr<ImportTurn>;

struct ThreadGroup : std::enable_shared_from_this<ThreadGroup> {
  GroupRef parent;      // Null: the root.
  bool closed = false;  // Its threads belong to `parent` now.
  TurnRef turn;
};

struct ImportTurns {
  GroupRef root = std::make_shared<ThreadGroup>();
  std::unordered_map<unsigned long, GroupRef> adopted;  // Until the thread asks for the first time.
  // Keys of AwaitHeld() under way. Owned: a thread that waits when the interpreter ends stays here.
  std::vector<PyObject*> awaited;
  int waiters = 0;
  // Only for sleeping without the GIL; all else here is protected by the GIL.
  std::mutex mutex;
  std::condition_variable woken;
  uint64_t generation = 0;
};

ImportTurns& AllTurns();

struct Importer {
  ThreadId id;
  GroupRef home;
  TurnRef turn;
  std::vector<Held> owed;  // Owns references to the keys.
};

// Of the calling thread, as it is.
extern thread_local Importer t_importer;
// The same, once it is known who it is and where it belongs.
Importer& ThisImporter();

// The group whose turn counts for those of `group`.
GroupRef Resolve(GroupRef group);
const GroupRef& Children(ImportTurn* turn);

// The calling thread's turn begins, in a group that has none.
void BeginTurn(const GroupRef& group, PyObject* name);
// Its threads move a level up, and so does the turn that one of them may have: nobody who waits for
// this level starts before that one ends.
void FinishTurn(const TurnRef& turn);

void WakeWaiters();

// The turn of `thread` (as pthread_self() names it), and how many are above it. Null: it has none.
TurnRef TurnOf(unsigned long thread, int* level);
// True if this thread was started inside `turn`, by whatever detour.
bool IsBornOf(const TurnRef& turn);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_SHIELD_IMPORT_TURNS_H_
