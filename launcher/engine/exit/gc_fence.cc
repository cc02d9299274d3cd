#include "launcher/engine/exit/gc_fence.h"

#include <cstring>
#include <string>

#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine {
using gc::kGenerations;
using gc::Next;
using gc::NodeOf;
using gc::ObjectOf;
using gc::Previous;

void GcFence::Link(Node* left, Node* right) {
  left->next = reinterpret_cast<uintptr_t>(right);
  right->prev = (right->prev & gc::kFlags) | reinterpret_cast<uintptr_t>(left);
}

void GcFence::InsertBefore(Node* node, Node* place) {
  Node* previous = Previous(place);
  Link(previous, node);
  Link(node, place);
}

// Everything of one list, in its order.
void GcFence::MoveAll(gc::Generation* from, Node* place) {
  Node* head = &from->head;
  if (Next(head) == head) return;
  Link(Previous(place), Next(head));
  Link(Previous(head), place);
  Link(head, head);
}

bool GcFence::Draw() {
  const int enabled = PyGC_Disable();
  first_ = PyList_New(0);
  bool found = first_ != nullptr && PyObject_GC_IsTracked(first_);
  if (found) state_ = gc::FindState(first_);
  found = static_cast<bool>(state_);
  if (found) {
    first_frozen_ = Next(&state_.permanent->head);
    last_frozen_ = Previous(&state_.permanent->head);
    gc::Generation* generations = state_.generations;
    Node* oldest = &generations[2].head;
    MoveAll(&generations[1], Next(oldest));
    MoveAll(&generations[0], Next(oldest));
    for (int i = 0; i < kGenerations; ++i) generations[i].count = 0;
    Unlink(NodeOf(first_));
    InsertBefore(NodeOf(first_), Next(oldest));
    last_ = PyList_New(0);
    found = last_ != nullptr && PyObject_GC_IsTracked(last_);
    if (found) {
      Unlink(NodeOf(last_));
      InsertBefore(NodeOf(last_), oldest);
    }
  }
  if (enabled) PyGC_Enable();
  PyErr_Clear();
  return found;
}

void GcFence::HideBefore() {
  Node* first = NodeOf(first_);
  Node* last = NodeOf(last_);
  seam_ = Next(last);
  Link(Previous(first), seam_);
  Link(&hidden_, first);
  Link(last, &hidden_);
}

void GcFence::MoveAfter(PyObject* object) {
  if (!PyObject_GC_IsTracked(object)) return;
  Unlink(NodeOf(object));
  InsertBefore(NodeOf(object), seam_);
}

void GcFence::HideNew() {
  for (int i = 0; i < kGenerations; ++i) {
    MoveAll(&state_.generations[i], NodeOf(last_));
    state_.generations[i].count = 0;
  }
  seam_ = &state_.generations[2].head;
}

void GcFence::EmptyFreeLists(PyObject* callbacks) {
  if (state_.statistics == nullptr || state_.callbacks != callbacks ||
      PyList_GET_SIZE(callbacks) != 0) {
    return;
  }
  const auto* statistics = static_cast<const char*>(state_.statistics);
  const std::string before(statistics, state_.statistics_size);
  const Py_ssize_t total = *state_.long_lived_total, pending = *state_.long_lived_pending;
  const int enabled = PyGC_Enable();
  PyGC_Collect();
  if (!enabled) PyGC_Disable();
  std::memcpy(state_.statistics, before.data(), before.size());
  gc::ForgetTimes(state_);
  *state_.long_lived_total = total;
  *state_.long_lived_pending = pending;
}

void GcFence::ShowBefore() {
  if (!hidden() || HasFrozen()) return;
  Node* oldest = Next(&state_.generations[2].head);
  Node* first = Next(&hidden_);
  Node* last = Previous(&hidden_);
  Link(&state_.generations[2].head, first);
  Link(last, oldest);
  hidden_ = {};
}

// gc_list_merge() and update_refs() append, so that what is new comes last; unless gc.unfreeze()
// has taken all there was, after which gc.freeze() puts something else first.
bool GcFence::HasFrozen() const {
  const Node* head = &state_.permanent->head;
  const Node* known = Next(head) == first_frozen_ ? last_frozen_ : head;
  const Node* node = Previous(head);
  while (node != known && gc::IsImmortal(ObjectOf(node))) node = Previous(node);
  return node != known;
}

// Of the nodes between the two.
void GcFence::Visit(const Node* begin, const Node* end, const Visitor& visit) {
  for (const Node* node = Next(begin); node != end; node = Next(node)) {
    visit(ObjectOf(node));
  }
}

void GcFence::VisitBefore(const Visitor& visit) const {
  Visit(NodeOf(first_), NodeOf(last_), visit);
}

// Before HideBefore(), the hidden ones are in their place and are passed over.
void GcFence::VisitAfter(const Visitor& visit) const {
  for (int i = 0; i < kGenerations; ++i) {
    const Node* head = &state_.generations[i].head;
    const Node* begin = Next(head) == NodeOf(first_) ? NodeOf(last_) : head;
    Visit(begin, head, visit);
  }
}

}  // namespace pylaunch::engine
