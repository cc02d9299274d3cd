#include "launcher/engine/base/gc_state.h"

#include "launcher/engine/base/own_modules.h"
#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine::gc {
namespace {

// gc.get_threshold(), gc.get_freeze_count(); -1 if it cannot be had.
Py_ssize_t AskGc(const char* method, Py_ssize_t index = -1) {
  PyRef gc = BuiltinModule("gc");
  PyRef told = gc ? PyRef::Steal(PyObject_CallMethod(gc.get(), method, nullptr)) : PyRef();
  if (told && index >= 0) told = PyRef::Steal(PySequence_GetItem(told.get(), index));
  const Py_ssize_t number = told ? PyLong_AsSsize_t(told.get()) : -1;
  PyErr_Clear();
  return number;
}

}  // namespace

bool IsImmortal([[maybe_unused]] PyObject* object) {
#if PY_VERSION_HEX >= 0x030C0000
  return _Py_IsImmortal(object);
#else
  return false;
#endif
}

// What is new is entered at the end of the youngest generation, so that its head comes next; the
// rest must look as we know it.
State* FindState(PyObject* newest) {
  Node* node = NodeOf(newest);
  Node* head = reinterpret_cast<Node*>(node->next);
  if (head == node || Previous(head) != node) return nullptr;
  auto* state = reinterpret_cast<State*>(head);
  if (state->rest().generation0 != head) return nullptr;
  for (int i = 0; i < kGenerations; ++i) {
    if (state->generations[i].threshold != AskGc("get_threshold", i)) return nullptr;
  }
  Py_ssize_t frozen = 0;
  bool frozen_by_program = false;
  const Node* permanent = &state->rest().permanent.head;
  for (const Node* it = Next(permanent); it != permanent; it = Next(it)) {
    ++frozen;
    if (!IsImmortal(ObjectOf(it))) frozen_by_program = true;
  }
  return frozen == AskGc("get_freeze_count") && !frozen_by_program ? state : nullptr;
}

}  // namespace pylaunch::engine::gc
