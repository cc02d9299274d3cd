#include "launcher/engine/import_lock.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <new>
#include <unordered_map>

#include "launcher/engine/clock.h"
#include "launcher/engine/thread_activity.h"

namespace pylaunch::engine {
namespace {

constexpr int64_t kMillisecond = 1'000'000;
// How long all threads of a turn must have been blocked before a waiter goes its own way, and how
// much of that all waiters together spend on one turn.
constexpr int64_t kPatience = 300 * kMillisecond;
constexpr int64_t kPatienceInAll = 600 * kMillisecond;
// A turn in which nothing is imported for so long does something else.
constexpr int64_t kNoProgress = 5000 * kMillisecond;
constexpr int64_t kSlice = 20 * kMillisecond;
// Blocked means: asleep at every look, and less than 1/50 of the time on a CPU.
constexpr int64_t kIdleShare = 50;

}  // namespace

struct ImportTurn {
  ThreadGroup* group = nullptr;
  ThreadId owner;
  int depth = 1;
  PyObject* name = nullptr;
  GroupRef children;         // The threads started, or gone ahead, during this turn.
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

// One waiter's judgement of one turn. Made with the GIL, used without it.
class Patience {
 public:
  enum class Verdict { kWait, kBlocked, kNoProgress, kGone };

  explicit Patience(const TurnRef& turn)
      : turn_(turn),
        needed_(std::min(kPatience, kPatienceInAll - turn->blocked)),
        progress_(turn->progress),
        progress_at_(MonotonicNs()) {
    // Turns of lower levels work for this one, as far as one can know.
    for (ImportTurn* t = turn.get(); t != nullptr && watched_count_ < kWatched;) {
      watched_[watched_count_++] = t->owner;
      t = t->children ? t->children->turn.get() : nullptr;
    }
    StartOver(progress_at_);
    blocked_since_ = progress_at_;
  }

  Verdict Look() {
    int64_t now = MonotonicNs();
    if (turn_->progress != progress_) {
      progress_ = turn_->progress;
      progress_at_ = now;
      StartOver(now);
      blocked_since_ = now;
    }
    for (int i = 0; i < watched_count_; ++i) {
      Activity activity = pylaunch::engine::Look(watched_[i]);
      if (activity == Activity::kGone && i == 0) return Verdict::kGone;
      if (activity == Activity::kWorking) StartOver(now), blocked_since_ = now;
    }
    if (now - progress_at_ > kNoProgress) return Verdict::kNoProgress;
    if (now - quiet_since_ < needed_) return Verdict::kWait;
    if (Cpu() - cpu_ <= (now - quiet_since_) / kIdleShare) return Verdict::kBlocked;
    StartOver(now);
    blocked_since_ = now;
    return Verdict::kWait;
  }

  // With the GIL, after kBlocked: whether `gil_wait`, the time it took to get it, means that the
  // holder may only have lacked the GIL. Then it gets some more chances.
  bool Doubts(int64_t gil_wait) {
    if (gil_wait < 2 * kMillisecond || doubts_++ == 4) return false;
    needed_ = 80 * kMillisecond;
    StartOver(MonotonicNs());
    return true;
  }

  int64_t blocked_since() const { return blocked_since_; }

 private:
  static constexpr int kWatched = 4;

  int64_t Cpu() const {
    int64_t sum = 0;
    for (int i = 0; i < watched_count_; ++i) sum += CpuNanoseconds(watched_[i]);
    return sum;
  }

  void StartOver(int64_t now) {
    quiet_since_ = now;
    cpu_ = Cpu();
  }

  TurnRef turn_;
  int64_t needed_;
  uint32_t progress_;
  int64_t progress_at_;
  int64_t quiet_since_ = 0;
  int64_t blocked_since_ = 0;
  int64_t cpu_ = 0;
  int doubts_ = 0;
  int watched_count_ = 0;
  ThreadId watched_[kWatched];
};

enum class WaitEnd { kOver, kGoAhead, kInterrupted };

// Sleeps without the GIL until something changed, the verdict is more than "wait", or, if `once`,
// for one slice. How long it took to get the GIL back: `gil_wait`.
Patience::Verdict Sleep(Patience* patience, bool once, int64_t* gil_wait) {
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
  } while (!woken && !once && verdict == Patience::Verdict::kWait);
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
  Patience patience(turn);
  while (true) {
    if (turn->over) return WaitEnd::kOver;
    if (turn->open || turn->yields) return WaitEnd::kGoAhead;
    int64_t gil_wait;
    Patience::Verdict verdict = Sleep(&patience, main_thread, &gil_wait);
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

// WaitFor, told in `story`.
WaitEnd Wait(const TurnRef& turn, bool signals, WaitStory* story) {
  if (!story->waited && turn->name != nullptr) {
    const char* name = PyUnicode_AsUTF8(turn->name);
    if (name == nullptr) PyErr_Clear();
    std::snprintf(story->holder_module, sizeof story->holder_module, "%s", name ? name : "?");
  }
  story->waited = true;
  story->holder = turn->owner.tid;
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

}  // namespace

bool HaveImportTurn() { return t_this.turn != nullptr; }

Turn TakeImportTurn(PyObject* name, WaitStory* story) { return Take(name, false, story); }

Turn TakeImportTurnForFork(WaitStory* story) { return Take(nullptr, true, story); }

Turn AwaitLoad(PyObject* spec, WaitStory* story) {
  GroupRef group = Resolve(Self().home);
  const TurnRef first = group->turn;
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

void SetImportTurnYields(bool yields) {
  t_this.turn->yields = yields;
  if (yields) WakeWaiters();
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
  state.adopted.clear();
  const bool orphan = Resolve(self.home) != state.root;
  state.root = std::make_shared<ThreadGroup>();
  self.id = ThreadId::OfThisThread();
  self.home = state.root;
  if (self.turn) {
    self.turn->group = state.root.get();
    self.turn->owner = self.id;
    self.turn->children.reset();
    state.root->turn = self.turn;
  }
  return orphan;
}

}  // namespace pylaunch::engine
