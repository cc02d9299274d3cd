#include "launcher/engine/shield/import_lock.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <new>
#include <unordered_map>
#include <vector>

#include "launcher/engine/base/clock.h"
#include "launcher/engine/shield/module_locks.h"
#include "launcher/engine/shield/thread_activity.h"

namespace pylaunch::engine {
namespace {

constexpr int64_t kMillisecond = 1'000'000;
// How long all threads of a turn must have been blocked before a waiter goes its own way, and how
// much of that all waiters together spend on one turn.
constexpr int64_t kPatience = 300 * kMillisecond;
constexpr int64_t kPatienceInAll = 600 * kMillisecond;
// A turn in which nothing is imported for so long does something else.
constexpr int64_t kNoProgress = 5000 * kMillisecond;
// The same for one who wants what the turn is in the middle of, where stock would not wait either.
constexpr int64_t kNoProgressOnOwn = 60'000 * kMillisecond;
constexpr int64_t kForever = INT64_MAX;
constexpr int64_t kSlice = 20 * kMillisecond;
// After so many, AwaitHeld() looks by itself for what it is woken for: someone may have come into
// importlib's own wait just before it.
constexpr int kSlicesUnwoken = 10;
// So many times a holder may sleep for a time, one sleep after the other, before that counts as
// asking over and over for what another thread has to do.
constexpr int kNaps = 4;
// Blocked means: asleep at every look, and less than 1/50 of the time on a CPU.
constexpr int64_t kIdleShare = 50;

}  // namespace

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

namespace {

struct State {
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

State& Shared() {
  static State* state = new State();  // Never destroyed: daemon threads outlive everything.
  return *state;
}

struct ThisThread {
  ThreadId id;
  GroupRef home;
  TurnRef turn;
  std::vector<Held> owed;  // Owns references to the keys.
};

thread_local ThisThread t_this;

ThisThread& Self() {
  if (t_this.id.tid != 0) return t_this;
  State& state = Shared();
  t_this.id = ThreadId::OfThisThread();
  auto found = state.adopted.find(static_cast<unsigned long>(pthread_self()));
  t_this.home = found == state.adopted.end() ? state.root : found->second;
  if (found != state.adopted.end()) state.adopted.erase(found);
  return t_this;
}

GroupRef Resolve(GroupRef group) {
  while (group->closed) group = group->parent;
  return group;
}

const GroupRef& Children(ImportTurn* turn) {
  if (!turn->children) {
    turn->children = std::make_shared<ThreadGroup>();
    turn->children->parent = turn->group->shared_from_this();
  }
  return turn->children;
}

void WakeWaiters() {
  State& state = Shared();
  if (state.waiters == 0) return;
  std::lock_guard lock(state.mutex);
  ++state.generation;
  state.woken.notify_all();
}

void Begin(const GroupRef& group, PyObject* name) {
  ThisThread& self = Self();
  self.turn = std::make_shared<ImportTurn>();
  self.turn->group = group.get();
  self.turn->owner = self.id;
  self.turn->thread = static_cast<unsigned long>(pthread_self());
  Py_XINCREF(name);
  self.turn->name = name;
  group->turn = self.turn;
}

// Its threads move a level up, and so does the turn that one of them may have: nobody who waits for
// this level starts before that one ends.
void Finish(const TurnRef& turn) {
  ThreadGroup* group = turn->group;
  if (group->turn != turn) return;
  group->turn.reset();
  turn->over = true;
  if (turn->children) {
    turn->children->closed = true;
    group->turn = std::move(turn->children->turn);
    if (group->turn) group->turn->group = group;
  }
  Py_CLEAR(turn->name);
  WakeWaiters();
}

// When a waiter loses patience. The first two in nanoseconds.
struct Terms {
  int64_t blocked;
  int64_t no_progress;
  // Blocked is only what waits for something that this process itself may have to do.
  bool dependent;
};

// One waiter's judgement of one turn. Made with the GIL, used without it.
class Patience {
 public:
  enum class Verdict { kWait, kBlocked, kNoProgress, kGone };

  Patience(const TurnRef& turn, const Terms& terms)
      : turn_(turn),
        terms_(terms),
        progress_(turn->progress),
        progress_at_(MonotonicNs()),
        blocked_since_(progress_at_) {
    // Turns of lower levels work for this one, as far as one can know; but this thread's own.
    for (ImportTurn* t = turn.get(); t != nullptr && watched_count_ < kWatched;) {
      if (t != t_this.turn.get()) watched_[watched_count_++].thread = t->owner;
      t = t->children ? t->children->turn.get() : nullptr;
    }
    StartOver(progress_at_);
  }

  Verdict Look() {
    if (terms_.blocked == kForever) {
      return IsGone(turn_->owner) ? Verdict::kGone : Verdict::kWait;
    }
    int64_t now = MonotonicNs();
    if (turn_->progress != progress_) {
      progress_ = turn_->progress;
      progress_at_ = now;
      naps_ = 0;
      Restart(now);
    }
    for (int i = 0; i < watched_count_; ++i) {
      Activity activity = LookAt(&watched_[i]);
      if (activity == Activity::kGone && i == 0) return Verdict::kGone;
      if (activity == Activity::kWorking) Restart(now);
    }
    if (now - progress_at_ > terms_.no_progress) return Verdict::kNoProgress;
    if (now - quiet_since_ < terms_.blocked) return Verdict::kWait;
    if (Cpu() - cpu_ <= (now - quiet_since_) / kIdleShare) return Verdict::kBlocked;
    Restart(now);
    return Verdict::kWait;
  }

  // With the GIL, after kBlocked: whether `gil_wait`, the time it took to get it, means that the
  // holder may only have lacked the GIL. Then it gets some more chances.
  bool Doubts(int64_t gil_wait) {
    if (gil_wait < 2 * kMillisecond || doubts_++ == 4) return false;
    terms_.blocked = 80 * kMillisecond;
    StartOver(MonotonicNs());
    return true;
  }

  int64_t blocked_since() const { return blocked_since_; }

 private:
  static constexpr int kWatched = 4;

  struct Watched {
    ThreadId thread;
    int64_t cpu = 0;  // At the last look.
  };

  // kWorking for all that will end without this process, if only that counts.
  Activity LookAt(Watched* watched) {
    if (!terms_.dependent) return pylaunch::engine::Look(watched->thread);
    int64_t cpu = CpuNanoseconds(watched->thread);
    bool stirred = std::exchange(watched->cpu, cpu) != cpu;
    Activity activity = LookForEnd(watched->thread);
    if (activity == Activity::kNapping && stirred) ++naps_;
    bool ends =
        activity == Activity::kElsewhere || (activity == Activity::kNapping && naps_ <= kNaps);
    return ends ? Activity::kWorking : activity;
  }

  int64_t Cpu() const {
    int64_t sum = 0;
    for (int i = 0; i < watched_count_; ++i) sum += CpuNanoseconds(watched_[i].thread);
    return sum;
  }

  void StartOver(int64_t now) {
    quiet_since_ = now;
    cpu_ = Cpu();
  }

  void Restart(int64_t now) {
    StartOver(now);
    blocked_since_ = now;
  }

  TurnRef turn_;
  Terms terms_;
  uint32_t progress_;
  int64_t progress_at_;
  int64_t quiet_since_ = 0;
  int64_t blocked_since_;
  int64_t cpu_ = 0;
  int naps_ = 0;
  int doubts_ = 0;
  int watched_count_ = 0;
  Watched watched_[kWatched];
};

enum class WaitEnd { kOver, kGoAhead, kInterrupted };

// Sleeps without the GIL until something changed, the verdict is more than "wait", or for so many
// slices. How long it took to get the GIL back: `gil_wait`.
Patience::Verdict Sleep(Patience* patience, int slices, int64_t* gil_wait) {
  State& state = Shared();
  Patience::Verdict verdict = Patience::Verdict::kWait;
  ++state.waiters;
  uint64_t seen = state.generation;
  PyThreadState* thread_state = PyEval_SaveThread();
  bool woken = false;
  do {
    {
      std::unique_lock lock(state.mutex);
      woken = state.woken.wait_for(lock, std::chrono::nanoseconds(kSlice),
                                   [&] { return state.generation != seen; });
    }
    if (!woken) verdict = patience->Look();
  } while (!woken && --slices > 0 && verdict == Patience::Verdict::kWait);
  int64_t before = MonotonicNs();
  PyEval_RestoreThread(thread_state);
  *gil_wait = MonotonicNs() - before;
  --state.waiters;
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

// kOver: the turn is over; kGoAhead: the waiter need not wait for it any longer.
WaitEnd WaitFor(const TurnRef& turn, bool signals) {
  const bool main_thread = signals && Self().id.tid == getpid();
  Patience patience(turn,
                    {std::min(kPatience, kPatienceInAll - turn->blocked), kNoProgress, false});
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
        Finish(turn);
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
  ThisThread& self = Self();
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
  Begin(group, name);
  return Turn::kMine;
}

bool IsInitializing(PyObject* spec) {
  PyObject* value = PyObject_GetAttrString(spec, "_initializing");
  int initializing = value == nullptr ? 0 : PyObject_IsTrue(value);
  Py_XDECREF(value);
  PyErr_Clear();
  return initializing == 1;
}

ImportTurn* Below(const ImportTurn* turn) {
  return turn->children ? turn->children->turn.get() : nullptr;
}

// The turn of `thread` (as pthread_self() names it), and how many are above it. Null: it has none.
TurnRef TurnOf(unsigned long thread, int* level) {
  *level = 0;
  if (thread == 0) return nullptr;
  TurnRef turn = Shared().root->turn;
  for (; turn && turn->thread != thread; ++*level)
    turn = turn->children ? turn->children->turn : nullptr;
  return turn;
}

// The turn of another thread that holds `held`.
TurnRef HolderOf(const Held& held) {
  int level;
  TurnRef turn = TurnOf(held.holder(held.key), &level);
  return turn == t_this.turn ? nullptr : turn;
}

// True if this thread waits for itself, by way of others, and is the lowest of those that could go
// on.
bool MustGiveWay() {
  constexpr int kTurnsInCircle = 100;
  int lowest = -1, level;
  unsigned long last = 0;
  TurnRef turn = t_this.turn;
  for (int i = 0; turn && i < kTurnsInCircle; ++i) {
    const Held& awaits = turn->awaits;
    unsigned long next =
        awaits.holder != nullptr ? awaits.holder(awaits.key) : AwaitedInImportlib(turn->thread);
    TurnOf(turn->thread, &level);
    if (awaits.holder != nullptr && level > lowest) lowest = level, last = turn->thread;
    if (next == t_this.turn->thread) return last == next;
    turn = TurnOf(next, &level);
  }
  return false;
}

// True if this thread was started inside `turn`, by whatever detour.
bool IsBornOf(const TurnRef& turn) {
  if (!turn->children) return false;
  for (GroupRef group = Self().home; group; group = group->parent)
    if (group == turn->children) return true;
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
  ThisThread& self = Self();
  const bool main_thread = self.id.tid == getpid();
  TellHolder(holder, story);
  Patience patience(holder, terms);
  while (HolderOf(held) == holder) {
    if (self.turn && MustGiveWay()) {
      Py_INCREF(held.key);
      self.owed.push_back(held);
      return Turn::kEscaped;
    }
    int64_t gil_wait;
    Patience::Verdict verdict = Sleep(&patience, main_thread ? 1 : kSlicesUnwoken, &gil_wait);
    if (main_thread && PyErr_CheckSignals() < 0) return Turn::kInterrupted;
    if (verdict == Patience::Verdict::kGone) Finish(holder);
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
  auto& awaited = Shared().awaited;
  auto found = std::find(awaited.begin(), awaited.end(), key);
  if (found == awaited.end()) return;
  awaited.erase(found);
  Py_DECREF(key);
}

bool IsSameKey(PyObject* a, PyObject* b) {
  return a == b || (PyUnicode_Check(a) && PyUnicode_Check(b) && PyUnicode_Compare(a, b) == 0);
}

}  // namespace

bool HaveImportTurn() { return t_this.turn != nullptr; }

Turn TakeImportTurn(PyObject* name, WaitStory* story) { return Take(name, false, story); }

Turn TakeImportTurnForFork(WaitStory* story) { return Take(nullptr, true, story); }

bool OthersImport() {
  const TurnRef& top = Shared().root->turn;
  return top && (top != t_this.turn || Below(top.get()) != nullptr);
}

Turn AwaitHeld(const Held& held, Insist insist, WaitStory* story) {
  if (!OthersImport() || !HolderOf(held)) return Turn::kMine;
  const TurnRef turn = Self().turn;
  const Held outer = turn ? std::exchange(turn->awaits, held) : held;
  const bool yielded = turn && turn->yields.exchange(true);
  Py_INCREF(held.key);
  Shared().awaited.push_back(held.key);
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
  const auto& awaited = Shared().awaited;
  if (std::any_of(awaited.begin(), awaited.end(),
                  [&](PyObject* other) { return IsSameKey(other, key); })) {
    WakeWaiters();
  }
}

PyObject* AwaitOwed(PyObject* result) {
  ThisThread& self = t_this;
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
  GroupRef group = Resolve(Self().home);
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

void EndImportTurn() {
  TurnRef& turn = t_this.turn;
  if (--turn->depth > 0) return;
  TurnRef ended = std::move(turn);
  turn.reset();
  Finish(ended);
}

void NoteImportProgress() {
  for (ImportTurn* turn = t_this.turn.get(); turn != nullptr;) {
    turn->progress.fetch_add(1, std::memory_order_relaxed);
    const GroupRef& parent = turn->group->parent;
    turn = parent ? parent->turn.get() : nullptr;
  }
}

void AdoptNewThread(unsigned long thread) {
  ThisThread& self = Self();
  State& state = Shared();
  GroupRef group = self.turn ? Children(self.turn.get()) : Resolve(self.home);
  if (group != state.root) {
    state.adopted[thread] = group;
  } else if (!state.adopted.empty()) {
    state.adopted.erase(thread);
  }
}

bool ResetImportLockInChild() {
  State& state = Shared();
  ThisThread& self = Self();
  new (&state.mutex) std::mutex;
  new (&state.woken) std::condition_variable;
  state.waiters = 0;
  state.awaited.clear();
  state.adopted.clear();
  const bool orphan = Resolve(self.home) != state.root;
  state.root = std::make_shared<ThreadGroup>();
  self.id = ThreadId::OfThisThread();
  self.home = state.root;
  if (self.turn) {
    self.turn->group = state.root.get();
    self.turn->owner = self.id;
    self.turn->children.reset();
    self.turn->dependent = 0;
    state.root->turn = self.turn;
  }
  return orphan;
}

}  // namespace pylaunch::engine
