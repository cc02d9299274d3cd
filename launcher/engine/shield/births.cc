#include "launcher/engine/shield/births.h"

#include <Python.h>

#include "launcher/engine/base/own_modules.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/base/wrap.h"
#include "launcher/engine/journal/journal.h"
#include "launcher/engine/shield/import_lock.h"
#include "launcher/engine/shield/load_watch.h"
#include "launcher/engine/shield/module_locks.h"
#include "launcher/engine/shield/shield_report.h"

namespace pylaunch::engine {
namespace {

// _thread and posix call the functions that stand here with nothing of ours.
constinit struct {
  Wrapped start_new_thread;
  Wrapped start_new;
  Wrapped start_joinable_thread;
  Wrapped fork;
  Wrapped forkpty;
  PyObject* bootstrap = nullptr;  // _frozen_importlib
} g;

// The new thread cannot run Python, and so not import, before this thread gives up the GIL.
void Adopt(PyObject* started) {
  PyRef ident = PyLong_Check(started)
                    ? PyRef::Share(started)
                    : PyRef::Steal(PyObject_GetAttrString(started, "ident"));  // A handle (3.13).
  if (ident) {
    unsigned long thread = PyLong_AsUnsignedLong(ident.get());
    if (!PyErr_Occurred()) AdoptNewThread(thread);
  }
  PyErr_Clear();
}

template <Wrapped& wrapped>
PyObject* StartThread(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  PyObject* started = wrapped.Call(args, count, keywords);
  if (started != nullptr && InMainInterpreter()) Adopt(started);
  return started;
}

// The turn is taken before any at-fork handler runs: those take locks that an import under way in
// another thread may need (logging's, say).
template <Wrapped& wrapped>
PyObject* Fork(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  if (!InMainInterpreter()) return wrapped.Call(args, count, keywords);
  WaitStory story;
  Turn turn = TakeImportTurnForFork(&story);
  ReportFork(story);
  PyObject* result = wrapped.Call(args, count, keywords);
  if (turn == Turn::kMine) EndImportTurn();
  return result;
}

// A module that a thread of the parent was importing. Its import would wait for that thread for
// ever. It is imported anew; but by a thread that was itself started by the module's body it is
// taken as it is, since the body would start that thread again.
void Release(PyObject* name, bool keep_partial) {
  PyObject* modules = PyImport_GetModuleDict();
  PyRef module = PyRef::Steal(PyObject_GetItem(modules, name));
  PyRef spec = module ? PyRef::Steal(PyObject_GetAttrString(module.get(), "__spec__")) : PyRef();
  PyRef busy = spec ? PyRef::Steal(PyObject_GetAttrString(spec.get(), "_initializing")) : PyRef();
  if (busy && PyObject_IsTrue(busy.get()) == 1) {
    if (keep_partial) {
      PyObject_SetAttrString(spec.get(), "_initializing", Py_False);
    } else {
      PyObject_DelItem(modules, name);
    }
    ReportAbandoned(name, keep_partial);
  }
  PyErr_Clear();
}

// Frees the module locks of threads that the child does not have.
void ReleaseDeadLocks(bool keep_partial) {
  PyRef locks = PyRef::Steal(PyObject_GetAttrString(g.bootstrap, "_module_locks"));
  PyRef names = locks ? PyRef::Steal(PySequence_List(locks.get())) : PyRef();
  for (Py_ssize_t i = 0; names && i < PyList_GET_SIZE(names.get()); ++i) {
    PyObject* name = PyList_GET_ITEM(names.get(), i);
    const unsigned long owner = ModuleLockOwner(name);
    if (owner != 0 && owner != PyThread_get_thread_ident()) {
      PyObject_DelItem(locks.get(), name);
      Release(name, keep_partial);
    }
    PyErr_Clear();
  }
}

PyObject* AfterForkInChild(PyObject*, PyObject*) {
  const bool orphan = ResetImportLockInChild();
  ForgetOtherThreadsLoads();
  StopJournal();
  ReleaseDeadLocks(orphan);
  PyErr_Clear();
  Py_RETURN_NONE;
}

PyMethodDef kAfterForkInChild = {"after_fork_in_child", AfterForkInChild, METH_NOARGS, nullptr};

bool RegisterAtFork(PyObject* posix) {
  PyRef hook = PyRef::Steal(PyCFunction_New(&kAfterForkInChild, nullptr));
  PyRef none = PyRef::Steal(PyTuple_New(0));
  PyRef keywords = PyRef::Steal(Py_BuildValue("{sO}", "after_in_child", hook.get()));
  PyRef function = PyRef::Steal(PyObject_GetAttrString(posix, "register_at_fork"));
  if (!hook || !none || !keywords || !function) return false;
  PyRef done = PyRef::Steal(PyObject_Call(function.get(), none.get(), keywords.get()));
  return static_cast<bool>(done);
}

// What not every version or platform has.
bool InstallIfThere(Wrapped* wrapped, PyObject* module, const char* name,
                    _PyCFunctionFastWithKeywords function) {
  return PyObject_HasAttrString(module, name) == 0 || wrapped->Install(module, name, function);
}

}  // namespace

bool WatchBirths() {
  PyRef thread = BuiltinModule("_thread");
  PyRef posix = BuiltinModule("posix");
  g.bootstrap = BuiltinModule("_frozen_importlib").release();
  if (!thread || !posix || g.bootstrap == nullptr) return false;
  return g.start_new_thread.Install(thread.get(), "start_new_thread",
                                    StartThread<g.start_new_thread>) &&
         g.start_new.Install(thread.get(), "start_new", StartThread<g.start_new>) &&
         InstallIfThere(&g.start_joinable_thread, thread.get(), "start_joinable_thread",
                        StartThread<g.start_joinable_thread>) &&
         g.fork.Install(posix.get(), "fork", Fork<g.fork>) &&
         InstallIfThere(&g.forkpty, posix.get(), "forkpty", Fork<g.forkpty>) &&
         RegisterAtFork(posix.get());
}

}  // namespace pylaunch::engine
