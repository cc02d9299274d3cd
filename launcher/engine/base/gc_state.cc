#include "launcher/engine/base/gc_state.h"

#include <malloc.h>

#include "launcher/engine/base/own_modules.h"
#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine::gc {
namespace {

// struct gc_generation_stats up to 3.14.
struct Counts {
  Py_ssize_t collections, collected, uncollectable;
};
// Of struct _gc_runtime_state, what follows the generations in 3.10 to 3.13,
struct RestUpTo313 {
  Node* generation0;
  Generation permanent;
  Counts counts[kGenerations];
  int collecting;
  PyObject *garbage, *callbacks;
  Py_ssize_t long_lived_total, long_lived_pending;
};
// what follows them and the permanent generation from 3.14.5 on,
struct Rest314 {
  Counts counts[kGenerations];
  int collecting;
  PyObject *garbage, *callbacks;
  Py_ssize_t heap_size, former_work_to_do;
  int former_visited_space, former_phase;
  Py_ssize_t long_lived_total, long_lived_pending;
  Node* generation0;
};
// and in 3.15, whose statistics are a piece of memory of their own.
struct Rest315 {
  void* statistics;
  int collecting;
  void* frame;
  PyObject *garbage, *callbacks;
  Py_ssize_t heap_size;
  Py_ssize_t long_lived_total, long_lived_pending;
  Node* generation0;
};
// struct gc_stats of 3.15.
template <int kItems>
struct Ring315 {
  struct {
    int64_t start, stop;
    Py_ssize_t collections, collected, uncollectable, candidates;
    double duration;
    Py_ssize_t heap_size;
  } items[kItems];
  int8_t index;
};
struct Statistics315 {
  Ring315<11> young;
  Ring315<3> old[2];
  uint32_t update_seq;
};

// gc.get_threshold(), gc.get_freeze_count(); -1 if it cannot be had.
Py_ssize_t AskGc(const char* method, Py_ssize_t index = -1) {
  PyRef gc = BuiltinModule("gc");
  PyRef told = gc ? PyRef::Steal(PyObject_CallMethod(gc.get(), method, nullptr)) : PyRef();
  if (told && index >= 0) told = PyRef::Steal(PySequence_GetItem(told.get(), index));
  const Py_ssize_t number = told ? PyLong_AsSsize_t(told.get()) : -1;
  PyErr_Clear();
  return number;
}

// Whether gc.`name` is `object`.
bool IsOfGc(const char* name, const PyObject* object) {
  PyRef gc = BuiltinModule("gc");
  PyRef found = gc ? PyRef::Steal(PyObject_GetAttrString(gc.get(), name)) : PyRef();
  PyErr_Clear();
  return found && found.get() == object;
}

// What lies behind `place`, aligned as a struct of pointers is.
template <typename Rest>
Rest* Behind(void* place) {
  constexpr uintptr_t kMask = alignof(Rest) - 1;
  return reinterpret_cast<Rest*>((reinterpret_cast<uintptr_t>(place) + kMask) & ~kMask);
}

template <typename Rest>
bool Fits(const Rest& rest, const Generation* generations) {
  return rest.generation0 == &generations->head && IsOfGc("callbacks", rest.callbacks) &&
         IsOfGc("garbage", rest.garbage);
}

void SetStatistics(RestUpTo313* rest, State* state) {
  state->statistics = rest->counts;
  state->statistics_size = sizeof rest->counts;
}

void SetStatistics(Rest314* rest, State* state) {
  state->statistics = rest->counts;
  state->statistics_size = sizeof rest->counts;
}

// malloc's chunks tell their size, up to what rounding adds.
void SetStatistics(Rest315* rest, State* state) {
  constexpr size_t kRounding = 2 * sizeof(void*);
  const size_t usable = malloc_usable_size(rest->statistics);
  if (usable < sizeof(Statistics315) || usable > sizeof(Statistics315) + kRounding) return;
  state->statistics = rest->statistics;
  state->statistics_size = sizeof(Statistics315);
  state->timed = true;
}

template <typename Ring>
void ForgetTimesIn(Ring* ring) {
  for (auto& item : ring->items) item.start = item.stop = 0;
}

template <typename Rest>
State StateOf(Generation* generations, Generation* permanent, Rest* rest) {
  State state;
  if (!Fits(*rest, generations)) return state;
  state.generations = generations;
  state.permanent = permanent;
  SetStatistics(rest, &state);
  state.callbacks = rest->callbacks;
  state.long_lived_total = &rest->long_lived_total;
  state.long_lived_pending = &rest->long_lived_pending;
  return state;
}

State StateBehind(Generation* generations) {
  Generation* end = generations + kGenerations;
  auto* former = Behind<RestUpTo313>(end);
  if (State state = StateOf(generations, &former->permanent, former)) return state;
  if (State state = StateOf(generations, end, Behind<Rest314>(end + 1))) return state;
  return StateOf(generations, end, Behind<Rest315>(end + 1));
}

}  // namespace

bool IsImmortal([[maybe_unused]] PyObject* object) {
#if PY_VERSION_HEX >= 0x030C0000
  return _Py_IsImmortal(object);
#else
  return false;
#endif
}

void ForgetTimes(const State& state) {
  if (!state.timed) return;
  auto* statistics = static_cast<Statistics315*>(state.statistics);
  ForgetTimesIn(&statistics->young);
  for (auto& ring : statistics->old) ForgetTimesIn(&ring);
}

// What is new is entered at the end of the youngest generation, so that its head comes next; the
// rest must look as we know it.
State FindState(PyObject* newest) {
  Node* node = NodeOf(newest);
  Node* head = reinterpret_cast<Node*>(node->next);
  if (head == node || Previous(head) != node) return State();
  auto* generations = reinterpret_cast<Generation*>(head);
  for (int i = 0; i < kGenerations; ++i) {
    if (generations[i].threshold != AskGc("get_threshold", i)) return State();
  }
  const State state = StateBehind(generations);
  if (!state) return state;
  Py_ssize_t frozen = 0;
  bool frozen_by_program = false;
  const Node* permanent = &state.permanent->head;
  for (const Node* it = Next(permanent); it != permanent; it = Next(it)) {
    ++frozen;
    if (!IsImmortal(ObjectOf(it))) frozen_by_program = true;
  }
  return frozen == AskGc("get_freeze_count") && !frozen_by_program ? state : State();
}

}  // namespace pylaunch::engine::gc
