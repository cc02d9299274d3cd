#include "launcher/engine/exit/exit_survivors.h"

#include <algorithm>
#include <string>

#include "launcher/engine/base/report.h"
#include "launcher/engine/exit/exit_finalizers.h"
#include "launcher/engine/exit/exit_modules.h"
#include "launcher/engine/exit/held_forever.h"

namespace pylaunch::engine {
namespace {

// An extension's function that is called when the module is freed; but not one of an installed
// library: a preloaded module's is not called, nor is that of one imported into a preloaded
// package.
bool IsFreeingNoticed(PyObject* object) {
  const PyModuleDef* definition = PyModule_CheckExact(object) ? PyModule_GetDef(object) : nullptr;
  if (definition == nullptr || definition->m_free == nullptr) return false;
  const auto* function = reinterpret_cast<const void*>(definition->m_free);
  return !g_exit->quiet_types.ContainCode(function) &&
         !IsInstalledFile(g_exit->library, CodeFile(function));
}

bool IsUnread(PyObject* object) {
  return !g_exit->quiet_types.Contain(Py_TYPE(object)) ||
         (IsFreeingNoticed(object) && !g_exit->preloaded.Contains(object));
}

// A value that stands for itself, with nothing outside of it.
bool IsPlain(PyObject* value) {
  return value == Py_None || PyBool_Check(value) || PyLong_CheckExact(value) ||
         PyFloat_CheckExact(value) || PyUnicode_CheckExact(value) || PyBytes_CheckExact(value) ||
         PyType_Check(value);
}

int Collect(PyObject* object, void* found) {
  static_cast<std::vector<PyObject*>*>(found)->push_back(object);
  return 0;
}

// True for an object that consists of nothing but plain values, as far as it shows them: no handle
// of anything that its end could close or write.
bool IsOfPlainValues(PyObject* object) {
  const PyTypeObject* type = Py_TYPE(object);
  if (type->tp_itemsize != 0 || type->tp_traverse == nullptr) return false;
  std::vector<PyObject*> shown;
  type->tp_traverse(object, Collect, &shown);
  if (!std::all_of(shown.begin(), shown.end(), IsPlain)) return false;
  const auto* begin = reinterpret_cast<PyObject* const*>(object + 1);
  const auto* end = begin + (type->tp_basicsize - sizeof(PyObject)) / sizeof(PyObject*);
  return std::all_of(begin, end, [&shown](PyObject* part) {
    return part == nullptr || std::find(shown.begin(), shown.end(), part) != shown.end();
  });
}

// A preloaded object whose class (`__class__`) has become one of these, or null.
PyObject* FindInstance(const std::unordered_set<PyTypeObject*>& types) {
  PyObject* found = nullptr;
  if (types.empty()) return found;
  g_exit->fence.VisitBefore([&](PyObject* object) {
    if (types.count(Py_TYPE(object)) != 0) found = object;
  });
  return found;
}

// handle_weakrefs: the callbacks of weak references that go together with what they refer to are
// not called.
void ForgetCallbacks(PyObject* object) {
  auto next = reinterpret_cast<PyWeakReference*>(*PyObject_GET_WEAKREFS_LISTPTR(object));
  while (next != nullptr) {
    PyWeakReference* reference = next;
    next = reference->wr_next;
    if (reference->wr_callback != nullptr) _PyWeakref_ClearRef(reference);
  }
}

// The names of program modules that are gone themselves.
std::vector<PyRef> OrphanedNames(const Survivors& survivors) {
  std::vector<PyRef> found;
  for (auto names = g_exit->program_dicts.rbegin(); names != g_exit->program_dicts.rend();
       ++names) {
    if (survivors.globals.count(*names) != 0) found.push_back(PyRef::Share(*names));
  }
  return found;
}

}  // namespace

Survivors FindSurvivors() {
  Survivors found;
  std::unordered_set<PyTypeObject*> finalizing_types;
  g_exit->quiet_types.Forget();  // Types have come and gone since, and their addresses with them.
  g_exit->fence.VisitAfter([&](PyObject* object) {
    if (HasFinalizer(object) && !WasBefore(object)) found.finalizable.push_back(object);
    if (IsUnread(object) && !WasBefore(object)) found.unread.push_back(object);
    if (IsHeapType(object) && GivesFinalizer(object))
      finalizing_types.insert(reinterpret_cast<PyTypeObject*>(object));
    if (PyFunction_Check(object)) {
      found.globals.insert(PyFunction_GET_GLOBALS(object));
    } else if (Py_TYPE(object)->tp_weaklistoffset != 0 && !PyType_Check(object)) {
      if (*PyObject_GET_WEAKREFS_LISTPTR(object) != nullptr)
        found.weakly_referenced.push_back(object);
    }
  });
  for (PyObject* object : found.finalizable) {
    if (!IsOursToFinalise(object)) found.noticed.insert(Py_TYPE(object)->tp_name);
  }
  if (PyObject* object = FindInstance(finalizing_types))
    found.noticed.insert(Py_TYPE(object)->tp_name);
  return found;
}

void JudgeUnread(Survivors* survivors) {
  if (survivors->unread.empty()) return;
  const std::unordered_set<PyObject*> forever = HeldForever(g_exit->fence);
  for (PyObject* object : survivors->unread) {
    if (forever.count(object) == 0 && !IsOfPlainValues(object))
      survivors->noticed.insert(Py_TYPE(object)->tp_name);
  }
}

void TakeAllApart(const std::set<std::string>& types) {
  if (g_exit->explain) {
    std::string names;
    for (const std::string& name : types) names.append(names.empty() ? "" : ", a ").append(name);
    Explain("exit: full teardown, preloaded modules hold objects of the program, a " + names +
            " among them");
    for (const std::string& line : g_exit->quiet_types.list().ToReadAgain()) {
      Explain("exit: " + line);
    }
  }
  GiveBack();
  for (FastExit::Listed& listed : g_exit->listed) {
    if (!listed.reference)
      listed.reference = PyRef::Steal(PyWeakref_NewRef(listed.module, nullptr));
  }
  if (g_exit->set_aside != nullptr) PyDict_Clear(g_exit->set_aside);
  g_exit->held.clear();
  g_exit->finalizable_now.clear();
  g_exit->streams.clear();
  CollectAlone();
  WipeListed();
}

void LetGo(const Survivors& survivors) {
  std::vector<PyRef> orphans = OrphanedNames(survivors);
  for (PyObject* object : survivors.weakly_referenced) ForgetCallbacks(object);
  std::vector<PyRef> finalizable;
  for (PyObject* object : survivors.finalizable) finalizable.push_back(PyRef::Share(object));
  for (const PyRef& object : g_exit->finalizable_now) PyObject_CallFinalizer(object.get());
  for (const PyRef& object : finalizable) PyObject_CallFinalizer(object.get());
  for (const PyRef& names : orphans) WipeNames(names.get());
}

}  // namespace pylaunch::engine
