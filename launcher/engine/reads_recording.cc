#include "launcher/engine/reads_recording.h"

#include <atomic>
#include <string>
#include <unordered_map>

#include "launcher/engine/environment_calls.h"
#include "launcher/engine/environment_reads.h"

namespace pylaunch::engine {
namespace {

std::atomic<size_t> g_entry = 0;
bool g_recording = false;

// The names that iterating over os.environ has made, alive and so with addresses of their own: a
// look-up by one of these very objects is a step of items(), values(), copy() or dict(os.environ).
std::unordered_map<PyObject*, PyRef>* g_enumerated = nullptr;

void OnRead(const char* name, const char* value) { PreloadReads().Add(name, value, g_entry); }

// True in a call from _Environ.__getitem__, through which all look-ups of _Environ, Mapping and
// MutableMapping go; __setitem__ and __delitem__ encode their keys, too.
bool IsLookup() {
  PyFrameObject* frame = PyEval_GetFrame();
  if (frame == nullptr) return false;
  PyRef code = PyRef::Steal(reinterpret_cast<PyObject*>(PyFrame_GetCode(frame)));
  PyObject* name = reinterpret_cast<PyCodeObject*>(code.get())->co_name;
  return PyUnicode_CompareWithASCIIString(name, "__getitem__") == 0;
}

void AddLookup(PyObject* data, PyObject* name) {
  if (!PyBytes_Check(name) || !PyDict_Check(data)) return;
  PyObject* value = PyDict_GetItemWithError(data, name);
  PyErr_Clear();
  const char* text = value != nullptr && PyBytes_Check(value) ? PyBytes_AS_STRING(value) : nullptr;
  PreloadReads().Add(PyBytes_AS_STRING(name), text, g_entry);
}

// Both stand in for a function of os.environ's and call it. `self`: (that function, the dict).
PyObject* EncodeKey(PyObject* self, PyObject* key) {
  PyObject* name = PyObject_CallOneArg(PyTuple_GET_ITEM(self, 0), key);
  if (name != nullptr && g_recording && g_enumerated->count(key) == 0 && IsLookup()) {
    AddLookup(PyTuple_GET_ITEM(self, 1), name);
  }
  return name;
}

PyObject* DecodeKey(PyObject* self, PyObject* key) {
  PyObject* name = PyObject_CallOneArg(PyTuple_GET_ITEM(self, 0), key);
  if (name != nullptr && g_recording) {
    PreloadReads().MarkEnumerated();
    g_enumerated->try_emplace(name, PyRef::Share(name));
  }
  return name;
}

PyMethodDef kEncodeKey = {"encodekey", EncodeKey, METH_O, nullptr};
PyMethodDef kDecodeKey = {"decodekey", DecodeKey, METH_O, nullptr};

}  // namespace

void ReadsRecording::Hook(PyObject* mapping, const char* attribute, PyMethodDef* hook) {
  PyErr_Clear();
  Hooked& hooked = hooked_[count_];
  hooked.original = PyRef::Steal(PyObject_GetAttrString(mapping, attribute));
  PyRef data = PyRef::Steal(PyObject_GetAttrString(mapping, "_data"));
  if (!hooked.original || !data) return;
  PyRef self = PyRef::Steal(PyTuple_Pack(2, hooked.original.get(), data.get()));
  if (self) hooked.hook = PyRef::Steal(PyCFunction_New(hook, self.get()));
  if (!hooked.hook || PyObject_SetAttrString(mapping, attribute, hooked.hook.get()) < 0) return;
  hooked.mapping = PyRef::Share(mapping);
  hooked.attribute = attribute;
  ++count_;
}

ReadsRecording::ReadsRecording(size_t entry) {
  g_entry = entry;
  g_recording = true;
  g_enumerated = new std::unordered_map<PyObject*, PyRef>();
  PyRef os = PyRef::Steal(PyImport_ImportModule("os"));
  for (const char* name : {"environ", "environb"}) {
    PyRef mapping = os ? PyRef::Steal(PyObject_GetAttrString(os.get(), name)) : PyRef();
    if (!mapping) break;
    Hook(mapping.get(), "encodekey", &kEncodeKey);
    Hook(mapping.get(), "decodekey", &kDecodeKey);
  }
  PyErr_Clear();
  ListenToReads(OnRead);
}

ReadsRecording::~ReadsRecording() {
  ListenToReads(nullptr);
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  while (count_ > 0) {
    const Hooked& hooked = hooked_[--count_];
    PyRef now = PyRef::Steal(PyObject_GetAttrString(hooked.mapping.get(), hooked.attribute));
    // Another one means that a preloaded module put its own there.
    if (now && now.get() == hooked.hook.get()) {
      PyObject_SetAttrString(hooked.mapping.get(), hooked.attribute, hooked.original.get());
    }
    PyErr_Clear();
  }
  PyErr_Restore(type, value, traceback);
  g_recording = false;
  delete g_enumerated;
  g_enumerated = nullptr;
}

}  // namespace pylaunch::engine
