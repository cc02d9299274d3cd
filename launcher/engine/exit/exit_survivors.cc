#include "launcher/engine/exit/exit_survivors.h"

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
    if (forever.count(object) == 0) survivors->noticed.insert(Py_TYPE(object)->tp_name);
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
