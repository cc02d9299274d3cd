#include "launcher/engine/argument_reads.h"

#include "launcher/engine/read_record.h"
#include "launcher/handoff.h"

namespace pylaunch::engine {
namespace {

void NoteAll() {
  NoteQuestionOfStart(kProgramName);
  NoteQuestionOfStart(kArguments);
}

PyObject* Subscript(PyObject* self, PyObject* key) {
  if (PyLong_CheckExact(key) && PyLong_AsLong(key) == 0) {
    NoteQuestionOfStart(kProgramName);
  } else {
    NoteAll();
  }
  PyErr_Clear();  // Of a number that is too large, about which the list has more to say.
  return PyList_Type.tp_as_mapping->mp_subscript(self, key);
}

PyObject* Item(PyObject* self, Py_ssize_t index) {
  if (index == 0) {
    NoteQuestionOfStart(kProgramName);
  } else {
    NoteAll();
  }
  return PyList_Type.tp_as_sequence->sq_item(self, index);
}

Py_ssize_t Length(PyObject* self) {
  NoteQuestionOfStart(kArguments);
  return PyList_GET_SIZE(self);
}

int Contains(PyObject* self, PyObject* value) {
  NoteAll();
  return PyList_Type.tp_as_sequence->sq_contains(self, value);
}

PyObject* Concat(PyObject* self, PyObject* other) {
  NoteAll();
  return PyList_Type.tp_as_sequence->sq_concat(self, other);
}

PyObject* Repeat(PyObject* self, Py_ssize_t count) {
  NoteAll();
  return PyList_Type.tp_as_sequence->sq_repeat(self, count);
}

PyObject* Iter(PyObject* self) {
  NoteAll();
  return PyList_Type.tp_iter(self);
}

PyObject* Compare(PyObject* self, PyObject* other, int operation) {
  NoteAll();
  return PyList_Type.tp_richcompare(self, other, operation);
}

PyObject* Repr(PyObject* self) {
  NoteAll();
  return PyList_Type.tp_repr(self);
}

// Its methods: index, copy, pop.
PyObject* Attribute(PyObject* self, PyObject* name) {
  NoteAll();
  return PyList_Type.tp_getattro(self, name);
}

template <typename Function>
PyType_Slot Slot(int id, Function* function) {
  return {id, reinterpret_cast<void*>(function)};
}

// Of a list's layout, so that lists can become ones and back. Never freed. Null: an error is set.
PyTypeObject* RecordingList() {
  static PyTypeObject* type = nullptr;
  if (type != nullptr) return type;
  PyType_Slot slots[] = {Slot(Py_mp_subscript, Subscript), Slot(Py_sq_item, Item),
                         Slot(Py_mp_length, Length),       Slot(Py_sq_length, Length),
                         Slot(Py_sq_contains, Contains),   Slot(Py_sq_concat, Concat),
                         Slot(Py_sq_repeat, Repeat),       Slot(Py_tp_iter, Iter),
                         Slot(Py_tp_richcompare, Compare), Slot(Py_tp_repr, Repr),
                         Slot(Py_tp_getattro, Attribute),  {0, nullptr}};
  PyType_Spec spec = {"builtins.list", static_cast<int>(PyList_Type.tp_basicsize), 0,
                      Py_TPFLAGS_DEFAULT, slots};
  PyRef bases = PyRef::Steal(PyTuple_Pack(1, &PyList_Type));
  if (bases) type = reinterpret_cast<PyTypeObject*>(PyType_FromSpecWithBases(&spec, bases.get()));
  return type;
}

bool Is(PyObject* text, const char* expected) {
  return text != nullptr && PyUnicode_Check(text) &&
         PyUnicode_CompareWithASCIIString(text, expected) == 0;
}

// inspect.getmodule looks at the files of all modules for that of an object, and asks the file
// system about each.
bool IsGetModule() {
  PyObject* globals = PyEval_GetGlobals();
  PyFrameObject* frame = PyEval_GetFrame();
  if (frame == nullptr || globals == nullptr) return false;
  PyRef code = PyRef::Steal(reinterpret_cast<PyObject*>(PyFrame_GetCode(frame)));
  return Is(PyDict_GetItemString(globals, "__name__"), "inspect") &&
         Is(reinterpret_cast<PyCodeObject*>(code.get())->co_name, "getmodule");
}

// Nothing that is preloaded comes from the program's file, so that the image need not be made anew
// for every change to it: getmodule finds none.
PyObject* MainAttribute(PyObject* self, PyObject* name) {
  if (Is(name, "__file__")) {
    if (IsGetModule()) return PyErr_Format(PyExc_AttributeError, "__file__");
    NoteQuestionOfStart(kProgramName);
  }
  return PyModule_Type.tp_getattro(self, name);
}

// As RecordingList.
PyTypeObject* RecordingModule() {
  static PyTypeObject* type = nullptr;
  if (type != nullptr) return type;
  PyType_Slot slots[] = {Slot(Py_tp_getattro, MainAttribute), {0, nullptr}};
  PyType_Spec spec = {"builtins.module", static_cast<int>(PyModule_Type.tp_basicsize), 0,
                      Py_TPFLAGS_DEFAULT, slots};
  PyRef bases = PyRef::Steal(PyTuple_Pack(1, &PyModule_Type));
  if (bases) type = reinterpret_cast<PyTypeObject*>(PyType_FromSpecWithBases(&spec, bases.get()));
  return type;
}

}  // namespace

ArgumentReads::ArgumentReads() {
  Record(PySys_GetObject("argv"), &PyList_Type, RecordingList());
  Record(PySys_GetObject("orig_argv"), &PyList_Type, RecordingList());
  Record(PyDict_GetItemString(PyImport_GetModuleDict(), "__main__"), &PyModule_Type,
         RecordingModule());
}

ArgumentReads::~ArgumentReads() {
  for (const auto& [object, type] : recorded_) Py_SET_TYPE(object.get(), type);
}

void ArgumentReads::Record(PyObject* object, PyTypeObject* plain, PyTypeObject* recording) {
  if (recording == nullptr || object == nullptr || !Py_IS_TYPE(object, plain)) {
    PyErr_Clear();
    NoteAll();
    return;
  }
  recorded_.emplace_back(PyRef::Share(object), plain);
  Py_SET_TYPE(object, recording);
}

}  // namespace pylaunch::engine
