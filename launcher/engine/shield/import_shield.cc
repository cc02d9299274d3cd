#include "launcher/engine/shield/import_shield.h"

#include <Python.h>

#include "launcher/engine/base/load_hook.h"
#include "launcher/engine/base/own_modules.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/base/wrap.h"
#include "launcher/engine/journal/journal.h"
#include "launcher/engine/shield/births.h"
#include "launcher/engine/shield/import_lock.h"
#include "launcher/engine/shield/lazy_loader.h"
#include "launcher/engine/shield/load_watch.h"
#include "launcher/engine/shield/module_locks.h"
#include "launcher/engine/shield/shield_report.h"
#include "launcher/engine/shield/stale_module.h"

// Compiled without exceptions: CPython ends daemon threads at exit by pthread_exit() inside the
// calls made here, and no destructor of ours may run then, without the GIL.

namespace pylaunch::engine {
namespace {

// import.c and importlib call the functions that stand here with nothing of ours.
constinit struct {
  // Functions of importlib._bootstrap.
  Wrapped find_and_load;
  PyObject* find_and_load_unlocked = nullptr;
  Wrapped lock_unlock_module;
  Wrapped load;
  Wrapped exec;
  PyObject* bootstrap = nullptr;
  PyObject* modules = nullptr;       // sys.modules as import.c sees it: valid to the very end.
  PyObject* also = nullptr;          // AlsoFind()
  PyObject* import = nullptr;        // builtins.__import__, as import.c passes it on.
  PyObject* name = nullptr;          // "name", interned
  PyObject* spec = nullptr;          // "__spec__", interned
  PyObject* initializing = nullptr;  // "_initializing", interned
  bool lazy_loader_safe = false;
  int retries = 0;           // Under way in all threads.
  Wrapped module_from_spec;  // In place during retries only.
} g;

// sys.modules[name]; empty, without an exception, if it is not there.
PyRef InModules(PyObject* name) { return PyRef::Share(PyDict_GetItemWithError(g.modules, name)); }

PyObject* NewNone() {
  Py_INCREF(Py_None);
  return Py_None;
}

// The spec of a module that is being loaded. Read without attribute access: a lazy module would
// load, and this thread goes on to do what stock does anyway.
PyRef SpecIfInitializing(PyObject* module) {
  if (module == nullptr || !PyModule_Check(module)) return PyRef();
  PyRef spec = PyRef::Share(PyDict_GetItemWithError(PyModule_GetDict(module), g.spec));
  if (!spec || spec.get() == Py_None) return PyRef();
  PyRef value = PyRef::Steal(PyObject_GetAttr(spec.get(), g.initializing));
  int busy = value ? PyObject_IsTrue(value.get()) : 0;
  PyErr_Clear();
  return busy == 1 ? std::move(spec) : PyRef();
}

// ------------------------------------------------------------------------ again, after a failure

// While an import is repeated: the module name, and the object that is to be the module this time.
// As for `g`, for this thread.
constinit thread_local struct {
  PyObject* name = nullptr;
  PyObject* module = nullptr;
} t_reused;

// Stands in for importlib._bootstrap.module_from_spec during retries only.
PyObject* ModuleFromSpec(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  PyRef fresh = PyRef::Steal(g.module_from_spec.Call(args, count, keywords));
  if (!fresh || t_reused.name == nullptr || count != 1) return fresh.release();
  PyRef name = PyRef::Steal(PyObject_GetAttr(args[0], g.name));
  if (name && PyObject_RichCompareBool(name.get(), t_reused.name, Py_EQ) == 1 &&
      MakeFresh(t_reused.module, fresh.get())) {
    Py_INCREF(t_reused.module);
    return t_reused.module;
  }
  PyErr_Clear();
  return fresh.release();
}

bool BeginRetry() {
  return g.retries++ > 0 ||
         g.module_from_spec.Install(g.bootstrap, "module_from_spec", ModuleFromSpec);
}

void EndRetry() {
  if (--g.retries > 0 || g.module_from_spec.original == nullptr) return;
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  if (PyObject_SetAttrString(g.bootstrap, "module_from_spec", g.module_from_spec.original) < 0)
    PyErr_Clear();
  Py_CLEAR(g.module_from_spec.original);
  PyErr_Restore(type, value, traceback);
}

// Imports `name` with `module` as the module object, if it is a plain one.
PyRef ImportInto(PyObject* name, PyObject* module) {
  PyObject* args[] = {name, g.import};
  PyRef result;
  PyObject* outer_name = std::exchange(t_reused.name, name);
  PyObject* outer_module = std::exchange(t_reused.module, module);
  if (BeginRetry()) result = PyRef::Steal(g.find_and_load.Call(args, 2, nullptr));
  EndRetry();
  t_reused.name = outer_name;
  t_reused.module = outer_module;
  return result;
}

Held LockOf(PyObject* name) { return {ModuleLockOwner, name}; }

// This thread holds `module`, whose import by another thread failed. It imports it again: either
// the true error is raised here too, or the object becomes what an import gives. New reference to
// None, or null.
PyObject* ImportAgain(PyObject* name, PyObject* module) {
  WaitStory story;
  if (TakeImportTurn(name, &story) == Turn::kInterrupted) return nullptr;
  PyRef now;
  if (AwaitHeld(LockOf(name), Insist::kUntilDone, &story) != Turn::kInterrupted)
    now = InModules(name);
  if (!now && !PyErr_Occurred()) {
    ReportRetry(name);
    now = ImportInto(name, module);
    NoteReleased(name);
  }
  EndImportTurn();
  if (!now) return nullptr;
  ForwardAttributes(module, now.get(), name);
  return AwaitOwed(NewNone());
}

// ------------------------------------------------------------------------ what import.c calls

// The half-built `module`, which this thread read from sys.modules as `name` and goes on with, is
// being loaded by another thread. Waits for that and makes the object usable. New reference, or
// null.
PyObject* AwaitOther(PyObject* name, PyObject* module, PyObject* spec, PyObject* const* args) {
  Watch(spec, module);
  WaitStory story;
  const bool inside = HaveImportTurn();
  Turn turn = inside ? AwaitHeld(LockOf(name), Insist::kUntilDone, &story)
                     : AwaitLoad(LockOf(name), spec, &story);
  PyObject* result = nullptr;
  // Inside a circle, as stock where it sees one: the module as far as it is.
  if (inside && turn == Turn::kEscaped)
    result = NewNone();
  else if (turn != Turn::kInterrupted)
    result = g.lock_unlock_module.Call(args, 1, nullptr);
  NoteReleased(name);
  ReportAwaited(name, story);
  const bool failed = Unwatch(spec);
  if (result == nullptr) return nullptr;
  PyRef now = InModules(name);
  if (now) ForwardAttributes(module, now.get(), name);
  if (now || !failed) return result;
  Py_DECREF(result);
  return ImportAgain(name, module);
}

// The half-built `name` if this thread itself is executing it, though another one holds its lock
// (AsHolder below).
PyRef OwnUnderForeignLock(PyObject* name) {
  PyRef module = InModules(name);
  PyRef spec = SpecIfInitializing(module.get());
  const bool own = spec && !IsLoadedElsewhere(spec.get()) && LoadingThread(spec.get()) != 0;
  return own && ModuleLockOwner(name) != PyThread_get_thread_ident() ? std::move(module) : PyRef();
}

PyObject* LockUnlockModule(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  if (count == 1 && keywords == nullptr && InMainInterpreter()) {
    PyRef module = InModules(args[0]);
    PyRef spec = SpecIfInitializing(module.get());
    if (spec && IsLoadedElsewhere(spec.get()))
      return AwaitOther(args[0], module.get(), spec.get(), args);
    if (spec && OthersImport() && OwnUnderForeignLock(args[0])) return NewNone();
    PyErr_Clear();
  }
  return g.lock_unlock_module.Call(args, count, keywords);
}

// Waits for the packages that `name` lies in (stock does not), then for `name` itself, as far as
// other threads are importing them. As AwaitHeld(), for `name`.
Turn AwaitModule(PyObject* name, WaitStory* story) {
  if (!OthersImport() || !PyUnicode_Check(name)) return Turn::kMine;
  for (Py_ssize_t dot = 0, end = PyUnicode_GET_LENGTH(name);; ++dot) {
    dot = PyUnicode_FindChar(name, '.', dot, end, 1);
    if (dot < 0) break;
    PyRef package = PyRef::Steal(PyUnicode_Substring(name, 0, dot));
    if (!package ||
        AwaitHeld(LockOf(package.get()), Insist::kPackage, story) == Turn::kInterrupted) {
      return Turn::kInterrupted;
    }
  }
  return AwaitHeld(LockOf(name), Insist::kUntilDone, story);
}

// The thread that imports `name` waits for this one. What it has of it, or else the import that it
// has yet to begin: its own would be let into the lock that it holds, too.
PyObject* AsHolder(PyObject* const* args) {
  PyRef module = InModules(args[0]);
  if (!module) return PyObject_Vectorcall(g.find_and_load_unlocked, args, 2, nullptr);
  if (PyRef spec = SpecIfInitializing(module.get()); spec && IsLoadedElsewhere(spec.get())) {
    Watch(spec.get(), module.get());  // To the load's end: it may put another in its place.
    Unwatch(spec.get());
  }
  return module.release();
}

// In a turn.
PyObject* Import(PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  if (OthersImport()) {
    if (PyRef own = OwnUnderForeignLock(args[0])) return own.release();
  }
  WaitStory story;
  Turn turn = AwaitModule(args[0], &story);
  if (turn == Turn::kInterrupted) return nullptr;
  ReportAwaited(args[0], story);
  if (turn == Turn::kEscaped && count == 2 && keywords == nullptr) return AsHolder(args);
  PyObject* result = g.find_and_load.Call(args, count, keywords);
  NoteReleased(args[0]);
  return result;
}

// What AlsoFind() was told of; null without an exception: it was not.
PyObject* FindAlso(PyObject* name) {
  if (g.also == nullptr || PyDict_GET_SIZE(g.modules) == 0) return nullptr;
  PyRef module = PyRef::Share(PyDict_GetItemWithError(g.also, name));
  PyErr_Clear();
  return module.release();
}

PyObject* FindAndLoad(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  if (count == 0 || !InMainInterpreter()) return g.find_and_load.Call(args, count, keywords);
  if (PyObject* module = FindAlso(args[0])) return module;
  if (PyRef module = InModules(args[0]); module && !SpecIfInitializing(module.get())) {
    // importlib.import_module() of what is there: stock looks at the same and returns the same.
    if (count == 2 && keywords == nullptr && Py_IS_TYPE(module.get(), &PyModule_Type) &&
        PySys_GetObject("modules") == g.modules) {
      return module.release();
    }
    return g.find_and_load.Call(args, count, keywords);
  }
  if (PyErr_Occurred()) return nullptr;
  WaitStory story;
  if (!HaveImportTurn() && AwaitModule(args[0], &story) == Turn::kInterrupted) return nullptr;
  if (TakeImportTurn(args[0], &story) == Turn::kInterrupted) return nullptr;
  if (story.waited) ReportTurn(args[0], story, static_cast<bool>(InModules(args[0])));
  NoteImportProgress();
  const int event = JournalOn() && !InModules(args[0]) ? ImportBegins(args[0]) : -1;
  PyObject* result = Import(args, count, keywords);
  if (event >= 0) ImportEnds(event, result);
  NoteImportProgress();
  EndImportTurn();
  return AwaitOwed(result);
}

// ------------------------------------------------------------------------ what importlib calls

// Sets `module` as an attribute of its parent as soon as `_initializing` is false, not some
// bytecodes later, so that no thread sees a finished module that the parent lacks (gh-149728).
void AttachToParent(PyObject* name, PyObject* module) {
  Py_ssize_t dot = PyUnicode_FindChar(name, '.', 0, PyUnicode_GET_LENGTH(name), -1);
  if (dot < 0) return;
  PyRef parent_name = PyRef::Steal(PyUnicode_Substring(name, 0, dot));
  PyRef child = PyRef::Steal(PyUnicode_Substring(name, dot + 1, PyUnicode_GET_LENGTH(name)));
  PyRef parent = parent_name ? InModules(parent_name.get()) : PyRef();
  if (child && parent && Py_IS_TYPE(parent.get(), &PyModule_Type))
    PyObject_SetAttr(parent.get(), child.get(), module);
}

void Loaded(PyObject* spec, PyObject* module) {
  PyRef name = PyRef::Steal(PyObject_GetAttr(spec, g.name));
  if (name && PyUnicode_Check(name.get())) {
    AttachToParent(name.get(), module);
    if (!g.lazy_loader_safe &&
        PyUnicode_CompareWithASCIIString(name.get(), "importlib.util") == 0) {
      g.lazy_loader_safe = true;
      MakeLazyLoaderSafe(module);
    }
  }
  PyErr_Clear();
}

// Hands on the journal's event.
intptr_t OnLoadBegins(PyObject* spec) {
  LoadBegins(spec);
  return JournalOn() ? BodyBegins(spec) : -1;
}

void OnLoadEnds(PyObject* spec, PyObject* module, intptr_t event) {
  if (event >= 0) BodyEnds(static_cast<int>(event), module);
  LoadEnds(spec, module);
  if (module != nullptr) Loaded(spec, module);
}

// For importlib.reload() and the old load_module() methods, which take a module lock themselves.
template <Wrapped& wrapped>
PyObject* InTurn(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  if (count == 0 || !InMainInterpreter()) return wrapped.Call(args, count, keywords);
  PyRef name = PyRef::Steal(PyObject_GetAttr(args[0], g.name));
  PyErr_Clear();
  WaitStory story;
  if (TakeImportTurn(name.get(), &story) == Turn::kInterrupted) return nullptr;
  PyObject* result = nullptr;
  if (!name || AwaitHeld(LockOf(name.get()), Insist::kUntilDone, &story) != Turn::kInterrupted)
    result = wrapped.Call(args, count, keywords);
  if (name) NoteReleased(name.get());
  EndImportTurn();
  return AwaitOwed(result);
}

}  // namespace

bool InstallImportShield(bool explain) {
  ReportShield(explain);
  g.bootstrap = BuiltinModule("_frozen_importlib").release();
  g.modules = PyImport_GetModuleDict();
  Py_INCREF(g.modules);
  g.name = PyUnicode_InternFromString("name");
  g.spec = PyUnicode_InternFromString("__spec__");
  g.initializing = PyUnicode_InternFromString("_initializing");
  PyRef builtins = BuiltinModule("builtins");
  if (g.bootstrap == nullptr || g.name == nullptr || g.spec == nullptr ||
      g.initializing == nullptr || !builtins) {
    return false;
  }
  g.import = PyObject_GetAttrString(builtins.get(), "__import__");
  g.find_and_load_unlocked = PyObject_GetAttrString(g.bootstrap, "_find_and_load_unlocked");
  return g.import != nullptr && g.find_and_load_unlocked != nullptr && WatchBirths() &&
         g.find_and_load.Install(g.bootstrap, "_find_and_load", FindAndLoad) &&
         g.lock_unlock_module.Install(g.bootstrap, "_lock_unlock_module", LockUnlockModule) &&
         ListenToLoads({OnLoadBegins, OnLoadEnds}) &&
         g.load.Install(g.bootstrap, "_load", InTurn<g.load>) &&
         g.exec.Install(g.bootstrap, "_exec", InTurn<g.exec>);
}

void AlsoFind(PyObject* modules) { g.also = modules; }

}  // namespace pylaunch::engine
