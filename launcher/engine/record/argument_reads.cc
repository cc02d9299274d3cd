#include "launcher/engine/record/argument_reads.h"

#include <cstring>

#include "launcher/contract/handoff.h"
#include "launcher/engine/record/file_record.h"

extern "C" const PyConfig* _Py_GetConfig(void);

namespace pylaunch::engine {
namespace {

// The lists as preloading found them.
struct StartList {
  const char* name;
  PyObject* list = nullptr;  // Null: not known.
  bool changed = false;      // By preloading.
};

// CPython calls the slots of the two types with nothing of ours, and the lists are asked for after
// ArgumentReads has gone.
constinit struct {
  StartList argv{"argv"};
  StartList orig_argv{"orig_argv"};
  PyTypeObject* recording_list = nullptr;    // Never freed.
  PyTypeObject* recording_module = nullptr;  // Never freed.
} g;

bool IsOrigArgv(PyObject* self) { return self == g.orig_argv.list; }

void NoteAll(PyObject* self) {
  if (IsOrigArgv(self)) return NoteQuestionOfStart(kCommandLine);
  NoteQuestionOfStart(kProgramName);
  NoteQuestionOfStart(kArguments);
}

void NoteFirst(PyObject* self) {
  NoteQuestionOfStart(IsOrigArgv(self) ? kCommandLine : kProgramName);
}

PyObject* Subscript(PyObject* self, PyObject* key) {
  if (PyLong_CheckExact(key) && PyLong_AsLong(key) == 0) {
    NoteFirst(self);
  } else {
    NoteAll(self);
  }
  PyErr_Clear();  // Of a number that is too large, about which the list has more to say.
  return PyList_Type.tp_as_mapping->mp_subscript(self, key);
}

PyObject* Item(PyObject* self, Py_ssize_t index) {
  if (index == 0) {
    NoteFirst(self);
  } else {
    NoteAll(self);
  }
  return PyList_Type.tp_as_sequence->sq_item(self, index);
}

Py_ssize_t Length(PyObject* self) {
  NoteQuestionOfStart(IsOrigArgv(self) ? kCommandLine : kArguments);
  return PyList_GET_SIZE(self);
}

int Contains(PyObject* self, PyObject* value) {
  NoteAll(self);
  return PyList_Type.tp_as_sequence->sq_contains(self, value);
}

PyObject* Concat(PyObject* self, PyObject* other) {
  NoteAll(self);
  return PyList_Type.tp_as_sequence->sq_concat(self, other);
}

PyObject* Repeat(PyObject* self, Py_ssize_t count) {
  NoteAll(self);
  return PyList_Type.tp_as_sequence->sq_repeat(self, count);
}

PyObject* Iter(PyObject* self) {
  NoteAll(self);
  return PyList_Type.tp_iter(self);
}

PyObject* Compare(PyObject* self, PyObject* other, int operation) {
  NoteAll(self);
  return PyList_Type.tp_richcompare(self, other, operation);
}

PyObject* Repr(PyObject* self) {
  NoteAll(self);
  return PyList_Type.tp_repr(self);
}

int SetSubscript(PyObject* self, PyObject* key, PyObject* value) {
  NoteAll(self);
  return PyList_Type.tp_as_mapping->mp_ass_subscript(self, key, value);
}

int SetItem(PyObject* self, Py_ssize_t index, PyObject* value) {
  NoteAll(self);
  return PyList_Type.tp_as_sequence->sq_ass_item(self, index, value);
}

PyObject* Extend(PyObject* self, PyObject* other) {
  NoteAll(self);
  return PyList_Type.tp_as_sequence->sq_inplace_concat(self, other);
}

PyObject* Multiply(PyObject* self, Py_ssize_t count) {
  NoteAll(self);
  return PyList_Type.tp_as_sequence->sq_inplace_repeat(self, count);
}

// reversed() looks for it in the type.
PyObject* Reversed(PyObject* self, PyObject*) {
  NoteAll(self);
  return PyObject_CallMethod(reinterpret_cast<PyObject*>(&PyList_Type), "__reversed__", "O", self);
}

PyMethodDef kMethods[] = {{"__reversed__", Reversed, METH_NOARGS, nullptr},
                          {nullptr, nullptr, 0, nullptr}};

// Its methods: index, copy, pop.
PyObject* Attribute(PyObject* self, PyObject* name) {
  NoteAll(self);
  return PyList_Type.tp_getattro(self, name);
}

template <typename Function>
PyType_Slot Slot(int id, Function* function) {
  return {id, reinterpret_cast<void*>(function)};
}

// Of a list's layout, so that lists can become ones and back. Never freed. Null: an error is set.
PyTypeObject* RecordingList() {
  if (g.recording_list != nullptr) return g.recording_list;
  PyType_Slot slots[] = {Slot(Py_mp_subscript, Subscript),
                         Slot(Py_sq_item, Item),
                         Slot(Py_mp_length, Length),
                         Slot(Py_sq_length, Length),
                         Slot(Py_sq_contains, Contains),
                         Slot(Py_sq_concat, Concat),
                         Slot(Py_sq_repeat, Repeat),
                         Slot(Py_tp_iter, Iter),
                         Slot(Py_tp_richcompare, Compare),
                         Slot(Py_tp_repr, Repr),
                         Slot(Py_mp_ass_subscript, SetSubscript),
                         Slot(Py_sq_ass_item, SetItem),
                         Slot(Py_sq_inplace_concat, Extend),
                         Slot(Py_sq_inplace_repeat, Multiply),
                         Slot(Py_tp_getattro, Attribute),
                         {Py_tp_methods, kMethods},
                         {0, nullptr}};
  PyType_Spec spec = {"builtins.list", static_cast<int>(PyList_Type.tp_basicsize), 0,
                      Py_TPFLAGS_DEFAULT, slots};
  PyRef bases = PyRef::Steal(PyTuple_Pack(1, &PyList_Type));
  if (bases) {
    g.recording_list =
        reinterpret_cast<PyTypeObject*>(PyType_FromSpecWithBases(&spec, bases.get()));
  }
  return g.recording_list;
}

bool Is(PyObject* text, const char* expected) {
  return text != nullptr && PyUnicode_Check(text) &&
         PyUnicode_CompareWithASCIIString(text, expected) == 0;
}

bool IsOnInput() {
  const PyConfig* config = _Py_GetConfig();
  return config->run_command == nullptr && config->run_module == nullptr &&
         config->run_filename == nullptr;
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
    // A program that stands there has a file, a session has none (main_module).
    if (IsOnInput()) NoteQuestionOfStart(TerminalFact(0).c_str());
  }
  return PyModule_Type.tp_getattro(self, name);
}

// As RecordingList.
PyTypeObject* RecordingModule() {
  if (g.recording_module != nullptr) return g.recording_module;
  PyType_Slot slots[] = {Slot(Py_tp_getattro, MainAttribute), {0, nullptr}};
  PyType_Spec spec = {"builtins.module", static_cast<int>(PyModule_Type.tp_basicsize), 0,
                      Py_TPFLAGS_DEFAULT, slots};
  PyRef bases = PyRef::Steal(PyTuple_Pack(1, &PyModule_Type));
  if (bases) {
    g.recording_module =
        reinterpret_cast<PyTypeObject*>(PyType_FromSpecWithBases(&spec, bases.get()));
  }
  return g.recording_module;
}

bool HasSameItems(PyObject* list, PyObject* other) {
  if (PyList_GET_SIZE(list) != PyList_GET_SIZE(other)) return false;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); ++i) {
    if (PyList_GET_ITEM(list, i) != PyList_GET_ITEM(other, i)) return false;
  }
  return true;
}

}  // namespace

ArgumentReads::ArgumentReads() {
  for (StartList* start : {&g.argv, &g.orig_argv}) {
    PyObject* list = PySys_GetObject(start->name);
    Record(list, &PyList_Type, RecordingList());
    if (list == nullptr || !PyList_Check(list)) continue;
    start->list = PyRef::Share(list).release();
    before_.push_back(PyRef::Steal(PyList_GetSlice(list, 0, PyList_GET_SIZE(list))));
  }
  Record(PyDict_GetItemString(PyImport_GetModuleDict(), "__main__"), &PyModule_Type,
         RecordingModule());
  PyErr_Clear();
}

ArgumentReads::~ArgumentReads() {
  for (const auto& [object, type] : recorded_) Py_SET_TYPE(object.get(), type);
  size_t i = 0;
  for (StartList* start : {&g.argv, &g.orig_argv}) {
    if (start->list == nullptr) continue;
    const PyRef& before = before_[i++];
    start->changed = !before || !HasSameItems(start->list, before.get());
  }
}

void ArgumentReads::Record(PyObject* object, PyTypeObject* plain, PyTypeObject* recording) {
  if (recording == nullptr || object == nullptr || !Py_IS_TYPE(object, plain)) {
    PyErr_Clear();
    NoteQuestionOfStart(kProgramName);
    NoteQuestionOfStart(kArguments);
    NoteQuestionOfStart(kCommandLine);
    return;
  }
  recorded_.emplace_back(PyRef::Share(object), plain);
  Py_SET_TYPE(object, recording);
}

PyObject* ListOfThisStart(const char* name) {
  for (const StartList* start : {&g.argv, &g.orig_argv}) {
    if (std::strcmp(start->name, name) != 0 || start->list == nullptr) continue;
    return start->changed ? nullptr : start->list;
  }
  PyObject* list = PySys_GetObject(name);
  if (list != nullptr && PyList_Check(list)) return list;
  PyRef fresh = PyRef::Steal(PyList_New(0));  // Nothing was preloaded, and `site` left no list.
  return fresh && PySys_SetObject(name, fresh.get()) == 0 ? fresh.get() : nullptr;
}

void ForgetListsOfThisStart() {
  for (StartList* start : {&g.argv, &g.orig_argv}) Py_CLEAR(start->list);
}

}  // namespace pylaunch::engine
