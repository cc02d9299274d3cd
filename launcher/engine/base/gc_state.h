#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_GC_STATE_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_GC_STATE_H_

#include <Python.h>

#include <cstdint>

// The state of CPython's collector, which no public call tells: as it is in 3.10 to 3.13
// (Include/internal/pycore_gc.h). Everything here needs the GIL.

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
// struct gc_generation_stats.
struct Counts {
  Py_ssize_t collections;
  Py_ssize_t collected;
  Py_ssize_t uncollectable;
};
// What struct _gc_runtime_state has behind one another; first the generations,
struct Rest {
  Node* generation0;
  Generation permanent;
  Counts counts[kGenerations];
  int collecting;
  PyObject* garbage;
  PyObject* callbacks;
  Py_ssize_t long_lived_total;
  Py_ssize_t long_lived_pending;
};
struct State {
  Generation generations[kGenerations];
  // then, aligned for pointers, what those are not by themselves.
  Rest& rest() {
    constexpr uintptr_t kMask = alignof(Rest) - 1;
    return *reinterpret_cast<Rest*>((reinterpret_cast<uintptr_t>(this + 1) + kMask) & ~kMask);
  }
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

// By `newest`, which must be tracked and the object made last. Null: this collector is not the one
// we know, or gc.freeze() has been called.
State* FindState(PyObject* newest);

}  // namespace pylaunch::engine::gc

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_GC_STATE_H_
