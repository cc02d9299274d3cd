#include "launcher/engine/shield/import_lock.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <cstdio>
#include <mutex>
#include <vector>

#include "launcher/engine/base/clock.h"
#include "launcher/engine/shield/import_turns.h"
#include "launcher/engine/shield/module_locks.h"
#include "launcher/engine/shield/patience.h"

namespace pylaunch::engine {
namespace {

// How long all threads of a turn must have been blocked before a waiter goes its own way, and how
// much of that all waiters together spend on one turn.
constexpr int64_t kPatience = 300 * kMillisecond;
constexpr int64_t kPatienceInAll = 600 * kMillisecond;
// A turn in which nothing is imported for so long does something else.
constexpr int64_t kNoProgress = 5000 * kMillisecond;
// The same for one who wants what the turn is in the middle of, where stock would not wait either.
constexpr int64_t kNoProgressOnOwn = 60'000 * kMillisecond;
constexpr int64_t kSlice = 20 * kMillisecond;
// After so many, AwaitHeld() looks by itself for what it is woken for: someone may have come into
// importlib's own wait just before it.
constexpr int kSlicesUnwoken = 10;

enum class WaitEnd { kOver, kGoAhead, kInterrupted };

// Sleeps without the GIL until something changed, the verdict is more than "wait", or for so many
// slices. How long it took to get the GIL back: `gil_wait`.
Patience::Verdict Sleep(Patience* patience, int slices, int64_t* gil_wait) {
  ImportTurns& all = AllTurns();
  Patience::Verdict verdict = Patience::Verdict::kWait;
  ++all.waiters;
  uint64_t seen = all.generation;
  PyThreadState* thread_state = PyEval_SaveThread();
  bool woken = false;
  do {
    {
      std::unique_lock lock(all.mutex);
      woken = all.woken.wait_for(lock, std::chrono::nanoseconds(kSlice),
                                 [&] { return all.generation != seen; });
    }
    if (!woken) verdict = patience->Look();
  } while (!woken && --slices > 0 && verdict == Patience::Verdict::kWait);
  int64_t before = MonotonicNs();
  PyEval_RestoreThread(thread_state);
  *gil_wait = MonotonicNs() - before;
  --all.waiters;
  return verdict;
}

void StopWaitingFor(const TurnRef& turn) {
  turn->open = true;
  WakeWaiters();
}

void ChargeBlocked(const TurnRef& turn, int64_t since) {
  int64_t now = MonotonicNs();
  turn->blocked += now - std::max(since, std::min(turn->blocked_seen, now));
  turn->blocked_seen = now;
  if (turn->blocked >= kPatienceInAll - kSlice) StopWaitingFor(turn);
}

Patience PatienceWith(const TurnRef& turn, const Terms& terms) {
  // Turns of lower levels work for this one, as far as one can know; but this thread's own.
  constexpr size_t kMost = 4;
  std::vector<ThreadId> threads;
  for (ImportTurn* t = turn.get(); t != nullptr && threads.size() < kMost;) {
    if (t != t_importer.turn.get()) threads.push_back(t->owner);
    t = t->children ? t->children->turn.get() : nullptr;
  }
  return Patience({turn, &turn->progress}, threads, terms);
}

// kOver: the turn is over; kGoAhead: the waiter need not wait for it any longer.
WaitEnd WaitFor(const TurnRef& turn, bool signals) {
  const bool main_thread = signals && ThisImporter().id.tid == getpid();
  Patience patience =
      PatienceWith(turn, {std::min(kPatience, kPatienceInAll - turn->blocked), kNoProgress, false});
  while (true) {
    if (turn->over) return WaitEnd::kOver;
    if (turn->open || turn->yields) return WaitEnd::kGoAhead;
    int64_t gil_wait;
    Patience::Verdict verdict = Sleep(&patience, main_thread ? 1 : INT_MAX, &gil_wait);
    if (turn->over) return WaitEnd::kOver;
    switch (verdict) {
      case Patience::Verdict::kWait:
        break;
      case Patience::Verdict::kGone:
        FinishTurn(turn);
        return WaitEnd::kOver;
      case Patience::Verdict::kNoProgress:
        StopWaitingFor(turn);
        return WaitEnd::kGoAhead;
      case Patience::Verdict::kBlocked:
        if (patience.Doubts(gil_wait)) break;
        ChargeBlocked(turn, patience.blocked_since());
        return WaitEnd::kGoAhead;
    }
    if (main_thread && PyErr_CheckSignals() < 0) return WaitEnd::kInterrupted;
  }
}

void TellHolder(const TurnRef& turn, WaitStory* story) {
  if (!story->waited && turn->name != nullptr) {
    const char* name = PyUnicode_AsUTF8(turn->name);
    if (name == nullptr) PyErr_Clear();
    std::snprintf(story->holder_module, sizeof story->holder_module, "%s", name ? name : "?");
  }
  story->waited = true;
  story->holder = turn->owner.tid;
}

// WaitFor, told in `story`.
WaitEnd Wait(const TurnRef& turn, bool signals, WaitStory* story) {
  TellHolder(turn, story);
  int64_t start = MonotonicNs();
  WaitEnd end = WaitFor(turn, signals);
  story->nanoseconds += MonotonicNs() - start;
  story->gave_up |= end == WaitEnd::kGoAhead;
  return end;
}

Turn Take(PyObject* name, bool for_fork, WaitStory* story) {
  Importer& self = ThisImporter();
  if (self.turn) {
    ++self.turn->depth;
    return Turn::kMine;
  }
  GroupRef group = Resolve(self.home);
  while (TurnRef turn = group->turn) {
    WaitEnd end = Wait(turn, !for_fork, story);
    if (end == WaitEnd::kInterrupted) return Turn::kInterrupted;
    if (end == WaitEnd::kGoAhead && for_fork) return Turn::kEscaped;
    if (end == WaitEnd::kGoAhead) group = Children(turn.get());
    group = Resolve(group);
  }
  BeginTurn(group, name);
  return Turn::kMine;
}

bool IsInitializing(PyObject* spec) {
  PyObject* value = PyObject_GetAttrString(spec, "_initializing");
  int initializing = value == nullptr ? 0 : PyObject_IsTrue(value);
  Py_XDECREF(value);
  PyErr_Clear();
  return initializing == 1;
}

// The turn of another thread that holds `held`.
TurnRef HolderOf(const Held& held) {
  int level;
  TurnRef turn = TurnOf(held.holder(held.key), &level);
  return turn == t_importer.turn ? nullptr : turn;
}

// True if this thread waits for itself, by way of others, and is the lowest of those that could go
// on.
bool MustGiveWay() {
  constexpr int kTurnsInCircle = 100;
  int lowest = -1, level;
  unsigned long last = 0;
  TurnRef turn = t_importer.turn;
  for (int i = 0; turn && i < kTurnsInCircle; ++i) {
    const Held& awaits = turn->awaits;
    unsigned long next =
        awaits.holder != nullptr ? awaits.holder(awaits.key) : AwaitedInImportlib(turn->thread);
    TurnOf(turn->thread, &level);
    if (awaits.holder != nullptr && level > lowest) lowest = level, last = turn->thread;
    if (next == t_importer.turn->thread) return last == next;
    turn = TurnOf(next, &level);
  }
  return false;
}

Terms TermsFor(Insist insist, const TurnRef& holder) {
  if (insist == Insist::kUntilDone) return {kForever, kForever, false};
  const bool package = insist == Insist::kPackage;
  if (holder->endless && insist != Insist::kLazy) return {0, 0, true};
  int64_t patience =
      IsBornOf(holder) ? (package ? 0 : kPatience) : (package ? kPatience : kNoProgress);
  return {patience - holder->dependent, insist == Insist::kLazy ? kForever : kNoProgressOnOwn,
          true};
}

// Lets a thread go on that has lost its patience with `holder`, or charges nothing and says no.
bool HasLostPatience(Patience* patience, Patience::Verdict verdict, int64_t gil_wait,
                     const TurnRef& holder) {
  if (verdict == Patience::Verdict::kNoProgress) {
    holder->endless = true;
    return true;
  }
  if (verdict != Patience::Verdict::kBlocked || patience->Doubts(gil_wait)) return false;
  holder->dependent = std::max(holder->dependent, MonotonicNs() - patience->blocked_since());
  ChargeBlocked(holder, patience->blocked_since());
  return true;
}

// One holder's part of AwaitHeld(). kMine: it holds `held` no more.
Turn AwaitHolder(const TurnRef& holder, const Held& held, const Terms& terms, WaitStory* story) {
  Importer& self = ThisImporter();
  const bool main_thread = self.id.tid == getpid();
  TellHolder(holder, story);
  Patience patience = PatienceWith(holder, terms);
  while (HolderOf(held) == holder) {
    if (self.turn && MustGiveWay()) {
      Py_INCREF(held.key);
      self.owed.push_back(held);
      return Turn::kEscaped;
    }
    int64_t gil_wait;
    Patience::Verdict verdict = Sleep(&patience, main_thread ? 1 : kSlicesUnwoken, &gil_wait);
    if (main_thread && PyErr_CheckSignals() < 0) return Turn::kInterrupted;
    if (verdict == Patience::Verdict::kGone) FinishTurn(holder);
    if (HolderOf(held) == holder && HasLostPatience(&patience, verdict, gil_wait, holder)) {
      story->gave_up = true;
      return Turn::kEscaped;
    }
  }
  return Turn::kMine;
}

Turn AwaitHolders(const Held& held, Insist insist, WaitStory* story) {
  Turn turn = Turn::kMine;
  while (TurnRef holder = turn == Turn::kMine ? HolderOf(held) : nullptr) {
    const Terms terms = TermsFor(insist, holder);
    turn = terms.blocked <= 0 ? Turn::kEscaped : AwaitHolder(holder, held, terms, story);
  }
  return turn;
}

// In a forked child, whose signal handler it was that forked, there is no such key any more.
void NoLongerAwaited(PyObject* key) {
  auto& awaited = AllTurns().awaited;
  auto found = std::find(awaited.begin(), awaited.end(), key);
  if (found == awaited.end()) return;
  awaited.erase(found);
  Py_DECREF(key);
}

bool IsSameKey(PyObject* a, PyObject* b) {
  return a == b || (PyUnicode_Check(a) && PyUnicode_Check(b) && PyUnicode_Compare(a, b) == 0);
}

}  // namespace

Turn TakeImportTurn(PyObject* name, WaitStory* story) { return Take(name, false, story); }

Turn TakeImportTurnForFork(WaitStory* story) { return Take(nullptr, true, story); }

Turn AwaitHeld(const Held& held, Insist insist, WaitStory* story) {
  if (!OthersImport() || !HolderOf(held)) return Turn::kMine;
  const TurnRef turn = ThisImporter().turn;
  const Held outer = turn ? std::exchange(turn->awaits, held) : held;
  const bool yielded = turn && turn->yields.exchange(true);
  Py_INCREF(held.key);
  AllTurns().awaited.push_back(held.key);
  if (turn) WakeWaiters();  // It may close a circle.
  int64_t start = MonotonicNs();
  Turn end = AwaitHolders(held, insist, story);
  story->nanoseconds += MonotonicNs() - start;
  NoLongerAwaited(held.key);
  if (turn) {
    turn->awaits = outer;
    turn->yields = yielded;
  }
  return end;
}

void NoteReleased(PyObject* key) {
  const auto& awaited = AllTurns().awaited;
  if (std::any_of(awaited.begin(), awaited.end(),
                  [&](PyObject* other) { return IsSameKey(other, key); })) {
    WakeWaiters();
  }
}

PyObject* AwaitOwed(PyObject* result) {
  Importer& self = t_importer;
  while (!self.turn && !self.owed.empty()) {
    Held held = self.owed.back();
    self.owed.pop_back();
    WaitStory story;
    if (result != nullptr && AwaitHeld(held, Insist::kOwed, &story) == Turn::kInterrupted) {
      Py_CLEAR(result);
    }
    Py_DECREF(held.key);
  }
  return result;
}

Turn AwaitLoad(const Held& held, PyObject* spec, WaitStory* story) {
  GroupRef group = Resolve(ThisImporter().home);
  const TurnRef first = group->turn;
  if (AwaitHeld(held, Insist::kUntilDone, story) == Turn::kInterrupted) return Turn::kInterrupted;
  group = Resolve(group);
  while (TurnRef turn = group->turn) {
    if (turn != first && !IsInitializing(spec)) break;
    WaitEnd end = Wait(turn, true, story);
    if (end == WaitEnd::kInterrupted) return Turn::kInterrupted;
    if (end == WaitEnd::kGoAhead) return Turn::kEscaped;
    group = Resolve(group);
  }
  return Turn::kMine;
}

}  // namespace pylaunch::engine
