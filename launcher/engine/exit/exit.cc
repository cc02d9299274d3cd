// When what is done at the end, and how we get to do it; what it is, the other files exit_*.cc
// know.
//
// Five places in Py_FinalizeEx (Python/pylifecycle.c, the same in 3.10 to 3.13) call us:
// - OnSignalSet: after atexit callbacks and the flush of the standard streams, no other thread
//   can run Python any more, and the first collection comes next: _PySignal_Fini gives SIGINT back
//   (or another signal, see TakeSpareSignal).
// - OnCollected: that collection has called finalizers, to which everything was in its place, and
//   sys.modules is emptied next: finalize_modules_delete_special sets names in sys to None, of
//   which one is ours.
// - OnModulesRemoved: sys.modules is empty, all garbage has been finalised and freed, and
//   finalize_modules goes on to wipe the modules that still live, last imported first: the first of
//   these is a module of ours.
// - OnProgramWiped: those modules are wiped, the last of them another one of ours.
// - OnSysWiped: the names in sys are wiped, the last of them ours.
// And two more in a process restored from an image:
// - OnBuiltinsWiped: the names in builtins, too. Nothing of Python's runs any more that could look
//   for an extension's module by its definition.
// - OnInterpreterCleared: nobody can run Python any more, thread-locals and the like are gone, and
//   what comes is the end of types and interned strings.

#include "launcher/engine/exit/exit.h"

#include <Python.h>
#include <malloc.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "launcher/engine/base/own_modules.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/base/report.h"
#include "launcher/engine/exit/exit_finalizers.h"
#include "launcher/engine/exit/exit_handlers.h"
#include "launcher/engine/exit/exit_modules.h"
#include "launcher/engine/exit/exit_state.h"
#include "launcher/engine/exit/exit_survivors.h"
#include "launcher/engine/exit/finalize_shortcut.h"
#include "launcher/engine/exit/own_tables.h"
#include "launcher/engine/libc/signal_calls.h"

extern "C" const PyConfig* _Py_GetConfig(void);

namespace pylaunch::engine {

FastExit* g_exit = nullptr;

void GiveBack() {
  g_exit->fence.ShowBefore();
  g_exit->tables.clear();
  g_exit->thread_locals = PyRef();
}

void CollectAlone() {
  PyObject* callbacks = g_exit->callbacks.get();
  PyRef kept = PyRef::Steal(PyList_GetSlice(callbacks, 0, PyList_GET_SIZE(callbacks)));
  if (kept) PyList_SetSlice(callbacks, 0, PyList_GET_SIZE(callbacks), nullptr);
  const int enabled = PyGC_Enable();
  PyGC_Collect();
  if (!enabled) PyGC_Disable();
  if (kept) PyList_SetSlice(callbacks, 0, 0, kept.get());
  PyErr_Clear();
}

namespace {

constexpr char kName[] = "pylaunch exit";

// signal_calls calls OnSignalSet with nothing of ours, also where no interpreter is left to ask.
constinit struct {
  volatile bool armed = false;
  volatile int first_reset = SIGINT;  // The first signal that _PySignal_Fini will give back.
} g;

// ------------------------------------------------------------------------------------------------
// Before the program

bool Prepare(FastExit* exit) {
  PyRef gc = BuiltinModule("gc");
  PyRef signal = BuiltinModule("_signal");
  PyRef io = BuiltinModule("_io");
  PyRef atexit = BuiltinModule("atexit");
  PyObject* modules = PyImport_GetModuleDict();
  if (!gc || !signal || !io || !atexit || modules == nullptr || !PyDict_CheckExact(modules))
    return false;
  exit->warnings = PyRef::Share(PyDict_GetItemString(modules, "warnings"));
  exit->callbacks = PyRef::Steal(PyObject_GetAttrString(gc.get(), "callbacks"));
  exit->get_debug = PyRef::Steal(PyObject_GetAttrString(gc.get(), "get_debug"));
  exit->at_exit = PyRef::Steal(PyObject_GetAttrString(atexit.get(), "register"));
  exit->get_signal = PyRef::Steal(PyObject_GetAttrString(signal.get(), "getsignal"));
  for (const auto& [name, type] : {std::pair("BytesIO", &exit->bytes_io),
                                   {"StringIO", &exit->string_io},
                                   {"TextIOWrapper", &exit->text_io},
                                   {"BufferedWriter", &exit->writer},
                                   {"BufferedReader", &exit->reader},
                                   {"BufferedRandom", &exit->random},
                                   {"FileIO", &exit->file_io}}) {
    *type = PyRef::Steal(PyObject_GetAttrString(io.get(), name));
    if (!*type) return false;
  }
  if (!exit->callbacks || !PyList_Check(exit->callbacks.get()) || !exit->get_debug ||
      !exit->at_exit || !exit->get_signal) {
    return false;
  }
  exit->library = StandardLibrary();
  for (auto& [module, names] :
       {std::pair("sys", &exit->sys_names), std::pair("builtins", &exit->builtins_names)}) {
    PyObject* found = PyDict_GetItemString(modules, module);
    if (found == nullptr || !PyModule_Check(found)) return false;
    *names = PyModule_GetDict(found);
  }
  if (!exit->preloaded.Note(modules, exit->library) || !exit->fence.Draw()) return false;
  NoteNoticed(exit);
  return true;
}

// ------------------------------------------------------------------------------------------------
// Hidden from the start

bool HasHandlerOfPythons(int number) {
  PyRef handler = PyRef::Steal(PyObject_CallFunction(g_exit->get_signal.get(), "i", number));
  return handler && PyCallable_Check(handler.get());
}

PyObject* OnSpareSignal(PyObject*, PyObject*) { Py_RETURN_NONE; }

PyMethodDef kOnSpareSignal = {"_pylaunch_signal", OnSpareSignal, METH_VARARGS, nullptr};

// _PySignal_Fini gives back only signals with a handler of Python's. A job that a script has put
// into the background ignores SIGINT; a real-time signal that nobody uses gets a handler for the
// last moments.
bool TakeSpareSignal() {
  PyRef signal = BuiltinModule("_signal");
  PyRef handler = PyRef::Steal(PyCFunction_New(&kOnSpareSignal, nullptr));
  for (int number = SIGRTMAX; signal && handler && number >= SIGRTMIN; --number) {
    struct sigaction action;
    if (sigaction(number, nullptr, &action) != 0 || action.sa_handler != SIG_DFL) continue;
    if (!PyRef::Steal(PyObject_CallMethod(signal.get(), "signal", "iO", number, handler.get())))
      return false;
    g.first_reset = number;
    return true;
  }
  return false;
}

// After all atexit callbacks but those of preloaded modules. A program can also call it earlier,
// which does no harm.
PyObject* OnAtExit(PyObject*, PyObject*) {
  if (!HasHandlerOfPythons(SIGINT) && !TakeSpareSignal()) GiveBack();
  PyErr_Clear();
  Py_RETURN_NONE;
}

PyMethodDef kOnAtExit = {"_pylaunch_exit", OnAtExit, METH_NOARGS, nullptr};

int RegisterAgain(void*);

// atexit forgets all that it has in _clear() and _run_exitfuncs(), which multiprocessing calls in
// its children, and we must be there at the end. Not before that call returns.
void OnForgotten(PyObject*) {
  if (g.armed && Py_IsInitialized()) Py_AddPendingCall(RegisterAgain, nullptr);
}

bool RegisterAtExit() {
  PyRef capsule = PyRef::Steal(PyCapsule_New(g_exit, nullptr, OnForgotten));
  PyRef function = capsule ? PyRef::Steal(PyCFunction_New(&kOnAtExit, capsule.get())) : PyRef();
  return function &&
         PyRef::Steal(PyObject_CallFunctionObjArgs(g_exit->at_exit.get(), function.get(), nullptr));
}

int RegisterAgain(void*) {
  if (g.armed && Py_IsInitialized() && !RegisterAtExit()) PyErr_Clear();
  return 0;
}

// Of thread-locals: what a preloaded module holds by them is left alone with the module. Else the
// main thread's end takes every one of them apart.
void KeepThreadLocals() { g_exit->thread_locals = PyRef::Share(PyThreadState_GetDict()); }

// An extension's first dict, of which later imports would make copies, is let go when modules are
// gone (_PyInterpreterState_ClearModules), which takes it apart. That of sys holds what sys held.
void KeepFirstDicts() {
  Py_ssize_t position = 0;
  PyObject *name, *module;
  while (PyDict_Next(PyImport_GetModuleDict(), &position, &name, &module)) {
    PyModuleDef* definition = PyModule_Check(module) ? PyModule_GetDef(module) : nullptr;
    if (definition != nullptr && definition->m_base.m_copy != nullptr)
      g_exit->tables.push_back(PyRef::Share(definition->m_base.m_copy));
  }
}

// ------------------------------------------------------------------------------------------------
// OnSignalSet

// A collection calls them as it does in stock, once, with the same words.
bool AreCallbacksInstalled() {
  PyObject* callbacks = g_exit->callbacks.get();
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(callbacks); ++i) {
    PyObject* function = PyList_GET_ITEM(callbacks, i);
    if (!PyFunction_Check(function) || !IsInstalledCode(function, "__code__")) return false;
  }
  return true;
}

// Empty, or why this program gets the full teardown; but for finalizers of preloaded objects.
const char* StateObstacle() {
  if (g_exit->full) return "it was asked for";
  PyObject* modules = PyImport_GetModuleDict();
  if (modules == nullptr || !PyDict_CheckExact(modules)) return "sys.modules is not a dict";
  if (PyInterpreterState_Next(PyInterpreterState_Head()) != nullptr)
    return "there are sub-interpreters";
  PyObject* options = PySys_GetObject("warnoptions");
  if (_Py_GetConfig()->dev_mode || options == nullptr || PyObject_IsTrue(options) != 0)
    return "warnings are asked for";
  if (g_exit->fence.HasFrozen()) return "objects are frozen";
  if (!AreCallbacksInstalled()) return "gc.callbacks has a function of the program";
  PyRef debug = PyRef::Steal(PyObject_CallNoArgs(g_exit->get_debug.get()));
  if (!debug || PyLong_AsLong(debug.get()) != 0) return "gc's debugging flags are set";
  return nullptr;
}

const char* Obstacle() {
  g_exit->finalizable_now.clear();
  g_exit->streams.clear();
  if (const char* obstacle = StateObstacle()) return obstacle;
  if (FindPreloadedWithFinalizer()) return nullptr;
  g_exit->finalizable_now.clear();
  g_exit->streams.clear();
  return "a preloaded module holds a file or something else to be finalised";
}

void LeaveAllToCPython(const char* obstacle) {
  PyErr_Clear();
  GiveBack();
  if (g_exit->explain) Explain(std::string("exit: full teardown, ") + obstacle);
}

// True for one as CPython makes it (create_stdio in Python/pylifecycle.c): no call of its methods
// is noticed, as it is by a class of the program's.
bool IsUsualStream(PyObject* stream) {
  if (!IsExactly(stream, g_exit->text_io)) return false;
  PyRef buffer = PyRef::Steal(PyObject_GetAttrString(stream, "buffer"));
  if (!buffer || !IsExactly(buffer.get(), g_exit->writer))
    return buffer && IsExactly(buffer.get(), g_exit->file_io);  // Unbuffered.
  PyRef raw = PyRef::Steal(PyObject_GetAttrString(buffer.get(), "raw"));
  return raw && IsExactly(raw.get(), g_exit->file_io);
}

// CPython has just flushed them. If that failed, it fails again, and the exit code is not ours to
// tell.
bool AreStreamsFlushed() {
  for (const auto& [name, first] : {std::pair("stdout", "__stdout__"), {"stderr", "__stderr__"}}) {
    PyObject* stream = PySys_GetObject(name);
    if (stream == nullptr || stream == Py_None) continue;
    if (stream != PySys_GetObject(first) || !IsUsualStream(stream)) return false;
    PyRef closed = PyRef::Steal(PyObject_GetAttrString(stream, "closed"));
    if (closed.get() == Py_True) continue;
    if (!PyRef::Steal(PyObject_CallMethod(stream, "flush", nullptr))) return false;
  }
  return true;
}

void OnCollected(PyObject*);
void OnModulesRemoved(PyObject*);
void OnProgramWiped(PyObject*);
void OnSysWiped(PyObject*);
void OnBuiltinsWiped(PyObject*);
void OnInterpreterCleared(PyObject*);

// Of the names that finalize_modules_delete_special wipes this one comes last but for meta_path,
// from 3.12 on, and the streams; site puts a function there.
constexpr char kLastName[] = "__interactivehook__";

bool AwaitCollected() {
  PyRef capsule = PyRef::Steal(PyCapsule_New(g_exit, nullptr, OnCollected));
  g_exit->interactive_hook = PyRef::Share(PySys_GetObject(kLastName));
  return capsule && PySys_SetObject(kLastName, capsule.get()) == 0;
}

// Until OnCollected() sys.modules stays whole: the first collection runs the program's finalizers.
// What they may yet change is looked at then; but where preloaded objects still are in the
// collector's sight, those with finalizers must be known before it.
void Begin() {
  if (const char* obstacle = g_exit->fence.hidden() ? StateObstacle() : Obstacle())
    return LeaveAllToCPython(obstacle);
  const int enabled = PyGC_Disable();
  // PYTHONMALLOCSTATS is printed last of all.
  g_exit->nothing_to_say =
      g_exit->resumed && _Py_GetConfig()->malloc_stats == 0 && AreStreamsFlushed();
  PyErr_Clear();
  if (!AwaitCollected()) {
    GiveBack();
  } else if (!g_exit->fence.hidden()) {
    g_exit->fence.HideBefore();
    ReturnMain(PyDict_GetItemString(PyImport_GetModuleDict(), "__main__"));
  }
  PyErr_Clear();
  if (enabled) PyGC_Enable();
}

// ------------------------------------------------------------------------------------------------
// OnCollected

// The rest of finalize_modules_delete_special, which will find it done: what the program has put
// there may have finalizers, too.
void WipeSpecialNames() {
  g_exit->interactive_hook = PyRef();
  PySys_SetObject("meta_path", Py_None);
  for (const auto& [name, first] :
       {std::pair("stdin", "__stdin__"), {"stdout", "__stdout__"}, {"stderr", "__stderr__"}}) {
    PyRef stream = PyRef::Share(PySys_GetObject(first));
    PySys_SetObject(name, stream ? stream.get() : Py_None);
  }
  PyErr_Clear();
}

// A module to which `call` comes when it is wiped, or null.
PyObject* ModuleThatCalls(PyCapsule_Destructor call) {
  PyObject* module = PyModule_New(kName);  // Never let go.
  PyRef capsule = PyRef::Steal(PyCapsule_New(g_exit, nullptr, call));
  if (module == nullptr || !capsule ||
      PyDict_SetItemString(PyModule_GetDict(module), "exit", capsule.get()) != 0) {
    return nullptr;
  }
  return module;
}

// The last of sys.modules is wiped first. The other one SortModules() makes the first.
bool AddOurModules(PyObject* modules) {
  PyObject* at_first = ModuleThatCalls(OnModulesRemoved);
  PyObject* at_last = ModuleThatCalls(OnProgramWiped);
  return at_first != nullptr && at_last != nullptr &&
         PyDict_SetItemString(modules, kWipedLast, at_last) == 0 &&
         PyDict_SetItemString(modules, kName, at_first) == 0;
}

void SetPreloadedAside() {
  PyObject* modules = PyImport_GetModuleDict();
  const auto keys = [modules] { return reinterpret_cast<PyDictObject*>(modules)->ma_keys; };
  const auto* before = keys();
  bool as_noted = g_exit->preloaded.IsAsNoted(modules);
  if (!AddOurModules(modules)) return GiveBack();
  as_noted = as_noted && keys() == before;  // A resized dict may have its entries elsewhere.
  PyObject* main = PyDict_GetItemString(modules, "__main__");
  if (SortModules(modules, main, as_noted) && g_exit->explain) {
    Explain("exit: fast, " + std::to_string(PyDict_GET_SIZE(g_exit->set_aside)) +
            " preloaded modules are not taken apart");
  }
}

void OnCollected(PyObject*) {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  WipeSpecialNames();
  const int enabled = PyGC_Disable();
  if (g_exit->resumed) g_exit->written.Scan();
  const char* obstacle = Obstacle();
  if (obstacle == nullptr) SetPreloadedAside();
  PyErr_Clear();
  if (enabled) PyGC_Enable();
  if (obstacle != nullptr) {
    LeaveAllToCPython(obstacle);
    CollectAlone();
  }
  PyErr_Restore(type, value, traceback);
}

// ------------------------------------------------------------------------------------------------
// OnModulesRemoved

// What comes now mostly frees: a million pieces by the destructors of libraries. Without fastbins
// each is joined with its neighbours once, and not put aside first (malloc_consolidate in glibc's
// malloc.c): a tenth of that time.
void ExpectFrees() { mallopt(M_MXFAST, 0); }

void LeavePreloadedIntact(const Survivors& survivors) {
  if (!g_exit->resumed) ExpectFrees();
  LetGo(survivors);
  PyRef capsule = PyRef::Steal(PyCapsule_New(g_exit, nullptr, OnSysWiped));
  if (capsule) PySys_SetObject(kName, capsule.get());
}

// Objects of extensions' types that only modules of the program hold, or what was imported late
// into preloaded packages, go when those are wiped. So they are judged after that.
void OnModulesRemoved(PyObject*) {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  Survivors survivors = FindSurvivors();
  g_exit->judged = survivors.unread.empty() || !survivors.noticed.empty();
  if (!survivors.noticed.empty()) {
    TakeAllApart(survivors.noticed);
  } else if (g_exit->judged) {
    LeavePreloadedIntact(survivors);
  }
  PyErr_Restore(type, value, traceback);
}

// ------------------------------------------------------------------------------------------------
// OnProgramWiped

void OnProgramWiped(PyObject*) {
  if (g_exit->judged) return;
  g_exit->judged = true;
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  Survivors survivors = FindSurvivors();
  if (survivors.noticed.empty()) {
    LetGo(survivors);
    CollectAlone();
    survivors = FindSurvivors();
    JudgeUnread(&survivors);
  }
  if (survivors.noticed.empty()) {
    LeavePreloadedIntact(survivors);
  } else {
    TakeAllApart(survivors.noticed);
  }
  PyErr_Restore(type, value, traceback);
}

// ------------------------------------------------------------------------------------------------
// OnSysWiped

// The last of its names, so that it is wiped last.
void AwaitBuiltinsWiped() {
  PyRef capsule = PyRef::Steal(PyCapsule_New(g_exit, nullptr, OnBuiltinsWiped));
  if (capsule) PyDict_SetItemString(g_exit->builtins_names, kName, capsule.get());
}

// Into a dict that goes after thread-locals, context variables and codecs (interpreter_clear in
// Python/pystate.c).
void AwaitInterpreterCleared() {
  PyObject* dict = PyInterpreterState_GetDict(PyInterpreterState_Get());
  PyRef capsule = PyRef::Steal(PyCapsule_New(g_exit, nullptr, OnInterpreterCleared));
  if (dict != nullptr && capsule) PyDict_SetItemString(dict, kName, capsule.get());
}

// What __del__ methods have printed is in their buffers.
void OnSysWiped(PyObject*) {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  for (const PyRef& stream : g_exit->streams) PyObject_CallFinalizer(stream.get());
  LeaveOutQuietHandlers();
  if (g_exit->resumed) AwaitBuiltinsWiped();
  if (g_exit->nothing_to_say) AwaitInterpreterCleared();
  PyErr_Restore(type, value, traceback);
}

// ------------------------------------------------------------------------------------------------
// OnBuiltinsWiped

void OnBuiltinsWiped(PyObject*) { g_exit->module_index.Forget(); }

// ------------------------------------------------------------------------------------------------
// OnInterpreterCleared

void OnInterpreterCleared(PyObject*) { ReturnFromFinalize(); }

// ------------------------------------------------------------------------------------------------

// Only _PySignal_Fini does this with the GIL of a CPython that is no longer initialised. Where it
// is not the main thread that ends the program (Py_Exit on another), what we keep is not the
// main thread's, and CPython does it all.
void OnSignalSet(int number) {
  if (number != g.first_reset || !g.armed || Py_IsInitialized() || !PyGILState_Check()) return;
  g.armed = false;
  if (syscall(SYS_gettid) == getpid()) return Begin();
  GiveBack();
}

}  // namespace

void ArmFastExit(bool explain) {
  g_exit = new FastExit();
  g_exit->explain = explain;
  g.armed = Prepare(g_exit);
  if (g.armed) WatchBefore();
  g.armed = g.armed && RegisterAtExit();
  if (g.armed) ListenToSignalSets(OnSignalSet);
  PyErr_Clear();
  if (!g.armed && explain) Explain("exit: full teardown, this CPython is not one we know");
}

void HidePreloaded() {
  if (!g.armed) return;
  PrepareReturnFromFinalize();
  g_exit->preloaded.NoteEntries();
  g_exit->preloaded.VisitAddresses([](const void* address) { g_exit->written.Ask(address); });
  g_exit->tables = OwnTables(g_exit->fence, g_exit->builtins_names);
  KeepFirstDicts();
  KeepThreadLocals();
  g_exit->module_index.Note(g_exit->fence);
  g_exit->quiet_types.ProveLoaded();
  g_exit->noticed.clear();
  g_exit->fence.HideBefore();
  g_exit->fence.EmptyFreeLists(g_exit->callbacks.get());
}

void HideResumed(bool explain, bool full) {
  if (!g.armed || !g_exit->fence.hidden()) return;
  g_exit->explain = explain;
  g_exit->full = full;
  g_exit->resumed = true;
  WatchAfter();
  PyObject* modules = PyImport_GetModuleDict();
  g_exit->preloaded.Note(modules, g_exit->library);
  // Its fork handler makes new locks (Lib/threading.py, _after_fork); at exit it changes plain
  // values.
  PyObject* threading = PyDict_GetItemString(modules, "threading");
  if (threading != nullptr) g_exit->preloaded.NoteEntriesAgain(threading);
  g_exit->fence.HideNew();
  ReturnMain(PyDict_GetItemString(modules, "__main__"));
}

}  // namespace pylaunch::engine
