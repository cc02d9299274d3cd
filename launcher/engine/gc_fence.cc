#include "launcher/engine/gc_fence.h"

#include "launcher/engine/py_ref.h"

namespace pylaunch::engine {
namespace {

constexpr uintptr_t kFlags = 3;

bool CallGc(const char* method) {
  PyRef gc = PyRef::Steal(PyImport_ImportModule("gc"));
  PyRef done = gc ? PyRef::Steal(PyObject_CallMethod(gc.get(), method, nullptr)) : PyRef();
  if (!done) PyErr_Clear();
  return static_cast<bool>(done);
}

bool NothingIsFrozen() {
  PyRef gc = PyRef::Steal(PyImport_ImportModule("gc"));
  PyRef count =
      gc ? PyRef::Steal(PyObject_CallMethod(gc.get(), "get_freeze_count", nullptr)) : PyRef();
  bool none = count && PyLong_Check(count.get()) && PyLong_AsSsize_t(count.get()) == 0;
  PyErr_Clear();
  return none;
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

bool GcFence::IsEmpty(const Generation& generation) {
  return Next(&generation.head) == &generation.head &&
         Previous(&generation.head) == &generation.head;
}

// No public call tells where the heads of the lists are. With everything frozen, an object that is
// new is alone in the youngest generation, between that head and itself.
bool GcFence::FindGenerations() {
  first_ = PyList_New(0);
  if (first_ == nullptr || !PyObject_GC_IsTracked(first_)) return false;
  Node* node = NodeOf(first_);
  Node* head = Next(node);
  if (head == node || Previous(node) != head || Next(head) != node || Previous(head) != node)
    return false;
  generations_ = reinterpret_cast<Generation*>(head);
  return IsEmpty(generations_[1]) && IsEmpty(generations_[2]);
}

bool GcFence::Draw() {
  if (!NothingIsFrozen()) return false;
  const int enabled = PyGC_Disable();
  bool found = CallGc("freeze");
  found = found && FindGenerations();
  found = CallGc("unfreeze") && found;
  last_ = found ? PyList_New(0) : nullptr;
  if (last_ != nullptr && PyObject_GC_IsTracked(last_) && !IsEmpty(generations_[2])) {
    Node* oldest = &generations_[2].head;
    Unlink(NodeOf(first_));
    InsertBefore(NodeOf(first_), Next(oldest));
    Unlink(NodeOf(last_));
    InsertBefore(NodeOf(last_), oldest);
  } else {
    found = false;
  }
  if (enabled) PyGC_Enable();
  PyErr_Clear();
  return found;
}

void GcFence::HideBefore() {
  Node* first = NodeOf(first_);
  Node* last = NodeOf(last_);
  Link(Previous(first), Next(last));
  Link(&hidden_, first);
  Link(last, &hidden_);
}

void GcFence::MoveAfter(PyObject* object) {
  if (!PyObject_GC_IsTracked(object)) return;
  Unlink(NodeOf(object));
  InsertBefore(NodeOf(object), Next(&generations_[2].head));
}

void GcFence::HideNew() {
  Node* last = NodeOf(last_);
  for (int i = 0; i < kGenerations; ++i) {
    Node* head = &generations_[i].head;
    if (Next(head) == head) continue;
    Link(Previous(last), Next(head));
    Link(Previous(head), last);
    Link(head, head);
    generations_[i].count = 0;
  }
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
