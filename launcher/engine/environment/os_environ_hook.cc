#include "launcher/engine/environment/os_environ_hook.h"

#include <Python.h>

#include <unordered_map>
#include <utility>
#include <vector>

#include "launcher/engine/base/own_modules.h"
#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine {
namespace {

// One attribute of one of the two mappings.
struct Hooked {
  PyRef mapping;
  const char* attribute;
  PyRef hook;
  PyRef original;
};

struct Hooks {
  EnvironListener listener;
  std::vector<Hooked> hooked;
  // The names that iterating over os.environ has made, alive and so with addresses of their own: a
  // look-up by one of these very objects is a step of items(), values(), copy() or
  // dict(os.environ).
  std::unordered_map<PyObject*, PyRef> enumerated;
};
// os.environ calls our functions with nothing of ours. Null: nobody listens (any more, where a
// module has kept one).
Hooks* g_hooks = nullptr;

// True in a call from _Environ.__getitem__, through which all look-ups of _Environ, Mapping and
// MutableMapping go; __setitem__ and __delitem__ encode their keys, too.
bool IsLookup() {
  PyFrameObject* frame = PyEval_GetFrame();
  if (frame == nullptr) return false;
  PyRef code = PyRef::Steal(reinterpret_cast<PyObject*>(PyFrame_GetCode(frame)));
  PyObject* name = reinterpret_cast<PyCodeObject*>(code.get())->co_name;
  return PyUnicode_CompareWithASCIIString(name, "__getitem__") == 0;
}

void TellLookup(PyObject* data, PyObject* name, bool enumerated) {
  if (!PyBytes_Check(name) || !PyDict_Check(data)) return;
  PyObject* value = PyDict_GetItemWithError(data, name);
  PyErr_Clear();
  const char* text = value != nullptr && PyBytes_Check(value) ? PyBytes_AS_STRING(value) : nullptr;
  const EnvironListener& listener = g_hooks->listener;
  (enumerated ? listener.fetched : listener.read)(PyBytes_AS_STRING(name), text);
}

// Both stand in for a function of os.environ's and call it. `self`: (that function, the dict).
PyObject* EncodeKey(PyObject* self, PyObject* key) {
  PyObject* name = PyObject_CallOneArg(PyTuple_GET_ITEM(self, 0), key);
  if (name != nullptr && g_hooks != nullptr && IsLookup()) {
    TellLookup(PyTuple_GET_ITEM(self, 1), name, g_hooks->enumerated.count(key) != 0);
  }
  return name;
}

PyObject* DecodeKey(PyObject* self, PyObject* key) {
  PyObject* name = PyObject_CallOneArg(PyTuple_GET_ITEM(self, 0), key);
  if (name != nullptr && g_hooks != nullptr) {
    g_hooks->listener.enumerated();
    g_hooks->enumerated.try_emplace(name, PyRef::Share(name));
  }
  return name;
}

PyMethodDef kEncodeKey = {"encodekey", EncodeKey, METH_O, nullptr};
PyMethodDef kDecodeKey = {"decodekey", DecodeKey, METH_O, nullptr};

void Hook(PyObject* mapping, const char* attribute, PyMethodDef* def) {
  PyErr_Clear();
  PyRef original = PyRef::Steal(PyObject_GetAttrString(mapping, attribute));
  PyRef data = PyRef::Steal(PyObject_GetAttrString(mapping, "_data"));
  if (!original || !data) return;
  PyRef self = PyRef::Steal(PyTuple_Pack(2, original.get(), data.get()));
  PyRef hook = self ? PyRef::Steal(PyCFunction_New(def, self.get())) : PyRef();
  if (!hook || PyObject_SetAttrString(mapping, attribute, hook.get()) < 0) return;
  g_hooks->hooked.push_back(
      {PyRef::Share(mapping), attribute, std::move(hook), std::move(original)});
}

}  // namespace

void HookEnviron(const EnvironListener& listener) {
  g_hooks = new Hooks{listener, {}, {}};
  PyRef os = LoadedModule("os");
  for (const char* name : {"environ", "environb"}) {
    PyRef mapping = os ? PyRef::Steal(PyObject_GetAttrString(os.get(), name)) : PyRef();
    if (!mapping) break;
    Hook(mapping.get(), "encodekey", &kEncodeKey);
    Hook(mapping.get(), "decodekey", &kDecodeKey);
  }
  PyErr_Clear();
}

bool IsEnvironHooked() { return g_hooks != nullptr; }

void UnhookEnviron() {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  for (const Hooked& hooked : g_hooks->hooked) {
    PyRef now = PyRef::Steal(PyObject_GetAttrString(hooked.mapping.get(), hooked.attribute));
    // Another one means that a preloaded module put its own there.
    if (now && now.get() == hooked.hook.get()) {
      PyObject_SetAttrString(hooked.mapping.get(), hooked.attribute, hooked.original.get());
    }
    PyErr_Clear();
  }
  PyErr_Restore(type, value, traceback);
  delete std::exchange(g_hooks, nullptr);
}

}  // namespace pylaunch::engine
