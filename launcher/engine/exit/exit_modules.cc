#include "launcher/engine/exit/exit_modules.h"

#include <string_view>
#include <utility>

#include "launcher/engine/base/weak_reference.h"
#include "launcher/engine/shield/import_shield.h"

namespace pylaunch::engine {
namespace {

// False: it is no module, or gone, or there is no memory.
bool ListForCPython(PyObject* module, PyObject* names, PyObject* main) {
  PyRef reference = PyRef::Steal(PyWeakref_NewRef(module, nullptr));
  if (!reference) return false;
  if (module != main && g_exit->preloaded.Contains(module)) {
    g_exit->held.push_back(PyRef::Share(module));
  } else {
    g_exit->program_dicts.push_back(names);
  }
  g_exit->listed.push_back({module, std::move(reference)});
  return true;
}

void Swap(PyObject* left, PyObject* right) {
  auto* a = reinterpret_cast<PyDictObject*>(left);
  auto* b = reinterpret_cast<PyDictObject*>(right);
  std::swap(a->ma_used, b->ma_used);
  std::swap(a->ma_keys, b->ma_keys);
  std::swap(a->ma_values, b->ma_values);
}

// Whether one entry of sys.modules goes to `rest`, which CPython shall take apart. False: failed.
bool SortModule(PyObject* name, PyObject* module, PyObject* main, PyObject* rest) {
  if (module != main && g_exit->preloaded.IsIntact(module, g_exit->written)) {
    g_exit->listed.push_back({module, PyRef()});
    return true;
  }
  PyObject* names = PyModule_Check(module) ? PyModule_GetDict(module) : nullptr;
  if (names != nullptr && !ListForCPython(module, names, main)) return false;
  return PyDict_SetItem(rest, name, module) == 0;
}

}  // namespace

void ReturnMain(PyObject* main) {
  if (main == nullptr || !PyModule_Check(main) || !g_exit->preloaded.Contains(main)) return;
  g_exit->fence.MoveAfter(main);
  g_exit->fence.MoveAfter(PyModule_GetDict(main));
}

// What CPython shall not take apart is not touched at all: in a process restored from an image,
// looking costs less than writing, which copies a page.
bool SortModules(PyObject* modules, PyObject* main, bool as_noted) {
  PyRef rest = PyRef::Steal(PyDict_New());
  Py_ssize_t position = 0;
  PyObject *name, *module;
  const auto sort = [&](PyObject* key, PyObject* value) {
    return SortModule(key, value, main, rest.get());
  };
  PyObject* last = PyDict_GetItemString(modules, kWipedLast);
  if (!rest || PyDict_SetItemString(rest.get(), kWipedLast, last) != 0) return false;
  if (!g_exit->preloaded.Visit(modules, as_noted, sort)) return false;
  while (PyDict_Next(rest.get(), &position, &name, &module)) {
    if (PyDict_DelItem(modules, name) < 0) return false;
  }
  Swap(modules, rest.get());
  g_exit->set_aside = rest.release();
  PyObject_GC_UnTrack(g_exit->set_aside);  // A collection would look at all that it holds.
  AlsoFind(g_exit->set_aside);
  return true;
}

void WipeNames(PyObject* names) {
  for (bool underscored : {true, false}) {
    Py_ssize_t position = 0;
    PyObject *name, *value;
    while (PyDict_Next(names, &position, &name, &value)) {
      if (value == Py_None || !PyUnicode_Check(name)) continue;
      const char* text = PyUnicode_AsUTF8(name);
      if (text == nullptr) PyErr_Clear(), text = "";
      const bool private_name = text[0] == '_' && text[1] != '_';
      if (private_name != underscored || std::string_view(text) == "__builtins__") continue;
      if (PyDict_SetItem(names, name, Py_None) != 0) PyErr_WriteUnraisable(nullptr);
    }
  }
}

void WipeListed() {
  for (auto listed = g_exit->listed.rbegin(); listed != g_exit->listed.rend(); ++listed) {
    PyRef module = PyRef::Share(Referent(listed->reference.get()));
    if (!module) continue;
    PyObject* names = PyModule_GetDict(module.get());
    if (names != g_exit->sys_names && names != g_exit->builtins_names) WipeNames(names);
  }
}

}  // namespace pylaunch::engine
