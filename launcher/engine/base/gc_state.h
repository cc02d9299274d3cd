#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_GC_STATE_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_GC_STATE_H_

#include <Python.h>

#include <cstddef>
#include <cstdint>

// The state of CPython's collector, which no public call tells: as it is in 3.10 to 3.15
// (Include/internal/pycore_gc.h; from 3.14 on pycore_interp_structs.h), but for the incremental one
// of 3.14.0 to 3.14.4. Everything here needs the GIL.

namespace pylaunch::engine::gc {

// PyGC_Head, which only internal headers declare. The two lowest bits of `prev` are flags. Aligned
// to 4 since some 3.13 after 3.13.0 (_PyObject_MIN_ALIGNMENT; Debian 13 has 3.13.5).
inline constexpr uintptr_t kFlags = 3;
struct [[gnu::packed, gnu::aligned(4)]] Node {
  uintptr_t next;
  uintptr_t prev;
};
// struct gc_generation.
struct Generation {
  Node head;
  int threshold;
  int count;
};
inline constexpr int kGenerations = 3;
// Where struct _gc_runtime_state has what. Its layout is told by what stands there, not by the
// version: it has changed inside a minor one.
struct State {
  Generation* generations = nullptr;  // kGenerations of them; null: this collector is not known.
  Generation* permanent = nullptr;
  // What gc.get_stats() tells; null: not known.
  void* statistics = nullptr;
  size_t statistics_size = 0;
  bool timed = false;             // And when each collection was: ForgetTimes().
  PyObject* callbacks = nullptr;  // gc.callbacks; borrowed.
  Py_ssize_t* long_lived_total = nullptr;
  Py_ssize_t* long_lived_pending = nullptr;

  explicit operator bool() const { return generations != nullptr; }
};

inline Node* NodeOf(PyObject* object) { return reinterpret_cast<Node*>(object) - 1; }
inline PyObject* ObjectOf(const Node* node) {
  return reinterpret_cast<PyObject*>(const_cast<Node*>(node) + 1);
}
inline Node* Next(const Node* node) { return reinterpret_cast<Node*>(node->next); }
inline Node* Previous(const Node* node) { return reinterpret_cast<Node*>(node->prev & ~kFlags); }

// From 3.12 on, the collector puts immortal objects into the permanent generation (Python/gc.c,
// update_refs), where others have only what gc.freeze() put there.
bool IsImmortal(PyObject* object);

// Sets to 0 when collections began and ended, by a clock that begins with the boot (3.15; no call
// of Python's tells it).
void ForgetTimes(const State& state);

// By `newest`, which must be tracked and the object made last. Nothing: this collector is not one
// that we know, or gc.freeze() has been called. Valid as long as the interpreter.
State FindState(PyObject* newest);

}  // namespace pylaunch::engine::gc

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_GC_STATE_H_
