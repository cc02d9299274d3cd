#include "launcher/engine/gc_fence.h"

#include <algorithm>
#include <iterator>

#include "launcher/engine/py_ref.h"

namespace pylaunch::engine {
namespace {

constexpr uintptr_t kFlags = 3;

// gc.get_threshold(), gc.get_freeze_count(); -1 if it cannot be had.
Py_ssize_t AskGc(const char* method, Py_ssize_t index = -1) {
  PyRef gc = PyRef::Steal(PyImport_ImportModule("gc"));
  PyRef told = gc ? PyRef::Steal(PyObject_CallMethod(gc.get(), method, nullptr)) : PyRef();
  if (told && index >= 0) told = PyRef::Steal(PySequence_GetItem(told.get(), index));
  const Py_ssize_t number = told ? PyLong_AsSsize_t(told.get()) : -1;
  PyErr_Clear();
  return number;
}

// From 3.12 on, the collector puts immortal objects into the permanent generation (Python/gc.c,
// update_refs), where others have only what gc.freeze() put there.
bool IsImmortal([[maybe_unused]] PyObject* object) {
#if PY_VERSION_HEX >= 0x030C0000
  return _Py_IsImmortal(object);
#else
  return false;
#endif
}

}  // namespace

GcFence::Node* GcFence::Previous(const Node* node) {
  return reinterpret_cast<Node*>(node->prev & ~kFlags);
}

void GcFence::Link(Node* left, Node* right) {
  left->next = reinterpret_cast<uintptr_t>(right);
  right->prev = (right->prev & kFlags) | reinterpret_cast<uintptr_t>(left);
}

void GcFence::InsertBefore(Node* node, Node* place) {
  Node* previous = Previous(place);
  Link(previous, node);
  Link(node, place);
}

// Everything of one list, in its order.
void GcFence::MoveAll(Generation* from, Node* place) {
  Node* head = &from->head;
  if (Next(head) == head) return;
  Link(Previous(place), Next(head));
  Link(Previous(head), place);
  Link(head, head);
}

// No public call tells where the heads of the lists are. What is new is entered at the end of the
// youngest generation, so that its head comes next; the rest must look as we know it.
bool GcFence::FindGenerations() {
  first_ = PyList_New(0);
  if (first_ == nullptr || !PyObject_GC_IsTracked(first_)) return false;
  Node* node = NodeOf(first_);
  Node* head = Next(node);
  if (head == node || Previous(head) != node) return false;
  const auto* state = reinterpret_cast<State*>(head);
  if (state->generation0 != head) return false;
  for (int i = 0; i < kGenerations; ++i) {
    if (state->generations[i].threshold != AskGc("get_threshold", i)) return false;
  }
  Py_ssize_t frozen = 0;
  bool frozen_by_program = false;
  Visit(&state->permanent.head, &state->permanent.head, [&](PyObject* object) {
    ++frozen;
    if (!IsImmortal(object)) frozen_by_program = true;
  });
  generations_ = reinterpret_cast<State*>(head)->generations;
  return frozen == AskGc("get_freeze_count") && !frozen_by_program;
}

bool GcFence::Draw() {
  const int enabled = PyGC_Disable();
  bool found = FindGenerations();
  if (found) {
    Node* oldest = &generations_[2].head;
    MoveAll(&generations_[1], Next(oldest));
    MoveAll(&generations_[0], Next(oldest));
    for (int i = 0; i < kGenerations; ++i) generations_[i].count = 0;
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
    MoveAll(&generations_[i], NodeOf(last_));
    generations_[i].count = 0;
  }
  seam_ = &generations_[2].head;
}

void GcFence::EmptyFreeLists(PyObject* callbacks) {
  auto* state = reinterpret_cast<State*>(generations_);
  if (state->callbacks != callbacks || PyList_GET_SIZE(callbacks) != 0) return;
  const State before = *state;
  const int enabled = PyGC_Enable();
  PyGC_Collect();
  if (!enabled) PyGC_Disable();
  std::copy(std::begin(before.counts), std::end(before.counts), state->counts);
  state->long_lived_total = before.long_lived_total;
  state->long_lived_pending = before.long_lived_pending;
}

void GcFence::ShowBefore() {
  if (!hidden()) return;
  Node* oldest = Next(&generations_[2].head);
  Node* first = Next(&hidden_);
  Node* last = Previous(&hidden_);
  Link(&generations_[2].head, first);
  Link(last, oldest);
  hidden_ = {};
}

// Of the nodes between the two.
void GcFence::Visit(const Node* begin, const Node* end, const Visitor& visit) {
  for (const Node* node = Next(begin); node != end; node = Next(node)) {
    visit(reinterpret_cast<PyObject*>(const_cast<Node*>(node) + 1));
  }
}

void GcFence::VisitBefore(const Visitor& visit) const {
  Visit(NodeOf(first_), NodeOf(last_), visit);
}

// Before HideBefore(), the hidden ones are in their place and are passed over.
void GcFence::VisitAfter(const Visitor& visit) const {
  for (int i = 0; i < kGenerations; ++i) {
    const Node* head = &generations_[i].head;
    const Node* begin = Next(head) == NodeOf(first_) ? NodeOf(last_) : head;
    Visit(begin, head, visit);
  }
}

}  // namespace pylaunch::engine
