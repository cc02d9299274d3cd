// Four places in Py_FinalizeEx (Python/pylifecycle.c, the same in 3.10 to 3.13) call us:
// - OnSignalReset: after atexit callbacks and the flush of the standard streams, no other thread
//   can run Python any more, and the first collection comes next: _PySignal_Fini gives SIGINT back
//   (or another signal, see TakeSpareSignal).
// - OnCollected: that collection has called finalizers, to which everything was in its place, and
//   sys.modules is emptied next: finalize_modules_delete_special sets names in sys to None, of
//   which one is ours.
// - OnModulesRemoved: sys.modules is empty, all garbage has been finalised and freed, and
//   finalize_modules goes on to wipe the modules that still live, last imported first: the first of
//   these is a module of ours.
// - OnSysWiped: the names in sys are wiped, the last of them ours.
// And two more in a process restored from an image:
// - OnBuiltinsWiped: the names in builtins, too. Nothing of Python's runs any more that could look
//   for an extension's module by its definition.
// - OnInterpreterCleared: nobody can run Python any more, thread-locals and the like are gone, and
//   what comes is the end of types and interned strings.

#include "launcher/engine/exit.h"

#include <Python.h>
#include <dlfcn.h>
#include <malloc.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "image/written_pages.h"
#include "launcher/engine/exit_handlers.h"
#include "launcher/engine/finalize_return.h"
#include "launcher/engine/gc_fence.h"
#include "launcher/engine/module_index.h"
#include "launcher/engine/own_tables.h"
#include "launcher/engine/preloaded_modules.h"
#include "launcher/engine/py_ref.h"
#include "launcher/engine/quiet_types.h"
#include "launcher/engine/report.h"
#include "launcher/engine/unseen_children.h"

extern "C" const PyConfig* _Py_GetConfig(void);

namespace pylaunch::engine {
namespace {

constexpr char kName[] = "pylaunch exit";

// Lives from ArmFastExit to the end of the process, as do its references: what it holds must
// outlive the interpreter.
struct FastExit {
  GcFence fence;
  bool explain = false;
  bool full = false;    // What was hidden for the program's time is given back at its end.
  std::string library;  // The standard library's folder, with '/' behind.
  PreloadedModules preloaded;
  PyObject* sys_names = nullptr;
  PyObject* builtins_names = nullptr;
  PyRef callbacks;   // gc.callbacks
  PyRef get_debug;   // gc.get_debug
  PyRef at_exit;     // atexit.register
  PyRef get_signal;  // _signal.getsignal
  PyRef bytes_io;    // io.BytesIO
  PyRef string_io;   // io.StringIO
  PyRef text_io;     // io.TextIOWrapper
  PyRef writer;      // io.BufferedWriter
  PyRef file_io;     // io.FileIO
  PyRef thread_locals;
  PyRef interactive_hook;  // What stood in sys where our capsule stands.

  // Objects from before the line whose end somebody could notice. Where they are hidden from the
  // start none: what is hidden stays before the line.
  struct Noticed {
    PyTypeObject* type;
    PyRef reference;  // A weak one, where objects of this type have such; else it may be gone.
  };
  std::unordered_map<PyObject*, Noticed> noticed;
  QuietTypes quiet_types;
  // Weak references to these, and to classes that may still be given a __del__, so that nobody has
  // to look at all objects in the end, of an image maybe a million that only its file holds.
  // Classes have theirs already, for __subclasses__().
  struct Watched {
    PyObject* object;  // By address only.
    PyRef reference;
    bool finalizable;
  };
  std::vector<Watched> watched;
  bool all_watched = false;
  bool resumed = false;         // This process is restored from an image.
  image::WrittenPages written;  // Where that is so.
  bool nothing_to_say = false;  // What Py_FinalizeEx ends with, nobody would notice.
  ModuleIndex module_index;
  std::vector<PyRef> tables;  // OwnTables() and KeepFirstDicts()

  // What was in sys.modules, in its order. With a reference if it is left to CPython to wipe.
  struct Listed {
    PyObject* module;
    PyRef reference;
  };
  std::vector<Listed> listed;
  PyObject* set_aside = nullptr;         // The preloaded modules that are not wiped: a dict.
  std::vector<PyRef> held;               // Those that are wiped and live on.
  std::vector<PyRef> finalizable_now;    // Preloaded objects that we shall finalise.
  std::vector<PyObject*> program_dicts;  // The program's modules' names, by address only.
  std::vector<PyRef> streams;            // sys.__stdin__, __stdout__, __stderr__
};

FastExit* g_exit = nullptr;
volatile bool g_armed = false;
volatile int g_first_reset = SIGINT;  // The first signal that _PySignal_Fini will give back.

// ------------------------------------------------------------------------------------------------
// Before the program

bool HasFinalizer(PyObject* object) {
  return Py_TYPE(object)->tp_finalize != nullptr && !PyObject_GC_IsFinalized(object);
}

// True if it makes a difference whether and when the object is freed.
bool IsEndNoticed(FastExit* exit, PyObject* object) {
  return HasFinalizer(object) || !exit->quiet_types.Contain(Py_TYPE(object));
}

bool Prepare(FastExit* exit) {
  PyRef gc = PyRef::Steal(PyImport_ImportModule("gc"));
  PyRef os = PyRef::Steal(PyImport_ImportModule("os"));
  PyRef signal = PyRef::Steal(PyImport_ImportModule("_signal"));
  PyRef io = PyRef::Steal(PyImport_ImportModule("_io"));
  PyRef atexit = PyRef::Steal(PyImport_ImportModule("atexit"));
  PyObject* modules = PyImport_GetModuleDict();
  if (!gc || !os || !signal || !io || !atexit || modules == nullptr || !PyDict_CheckExact(modules))
    return false;
  exit->callbacks = PyRef::Steal(PyObject_GetAttrString(gc.get(), "callbacks"));
  exit->get_debug = PyRef::Steal(PyObject_GetAttrString(gc.get(), "get_debug"));
  exit->at_exit = PyRef::Steal(PyObject_GetAttrString(atexit.get(), "register"));
  exit->get_signal = PyRef::Steal(PyObject_GetAttrString(signal.get(), "getsignal"));
  for (const auto& [name, type] : {std::pair("BytesIO", &exit->bytes_io),
                                   {"StringIO", &exit->string_io},
                                   {"TextIOWrapper", &exit->text_io},
                                   {"BufferedWriter", &exit->writer},
                                   {"FileIO", &exit->file_io}}) {
    *type = PyRef::Steal(PyObject_GetAttrString(io.get(), name));
    if (!*type) return false;
  }
  if (!exit->callbacks || !PyList_Check(exit->callbacks.get()) || !exit->get_debug ||
      !exit->at_exit || !exit->get_signal) {
    return false;
  }
  exit->library = FileOf(PyModule_GetDict(os.get()));
  exit->library.resize(exit->library.rfind('/') + 1);
  for (auto& [module, names] :
       {std::pair("sys", &exit->sys_names), std::pair("builtins", &exit->builtins_names)}) {
    PyObject* found = PyDict_GetItemString(modules, module);
    if (found == nullptr || !PyModule_Check(found)) return false;
    *names = PyModule_GetDict(found);
  }
  if (!exit->preloaded.Note(modules, exit->library) || !exit->fence.Draw()) return false;
  exit->fence.VisitBefore([exit](PyObject* object) {
    if (IsEndNoticed(exit, object))
      exit->noticed.emplace(object, FastExit::Noticed{Py_TYPE(object), PyRef()});
  });
  for (auto& [object, noticed] : exit->noticed) {
    if (noticed.type->tp_weaklistoffset > 0)
      noticed.reference = PyRef::Steal(PyWeakref_NewRef(object, nullptr));
    PyErr_Clear();
  }
  return true;
}

// ------------------------------------------------------------------------------------------------
// Hidden from the start

bool IsHeapType(PyObject* object) {
  return PyType_Check(object) &&
         (reinterpret_cast<PyTypeObject*>(object)->tp_flags & Py_TPFLAGS_HEAPTYPE) != 0;
}

const void* FinalizerPlace(PyObject* type) {
  return &reinterpret_cast<PyTypeObject*>(type)->tp_finalize;
}

// A weak reference that nobody hears of. False: objects of this type have none.
bool Watch(PyObject* object) {
  if (Py_TYPE(object)->tp_weaklistoffset <= 0) return false;
  PyRef reference = PyRef::Steal(PyWeakref_NewRef(object, nullptr));
  if (!reference) return false;
  if (IsHeapType(object)) g_exit->written.Ask(FinalizerPlace(object));
  g_exit->watched.push_back({object, std::move(reference), HasFinalizer(object)});
  return true;
}

bool GivesFinalizer(PyObject* type) {
  return reinterpret_cast<PyTypeObject*>(type)->tp_finalize != nullptr;
}

bool IsToWatch(PyObject* object) {
  return HasFinalizer(object) || (IsHeapType(object) && !GivesFinalizer(object));
}

void WatchAll(std::vector<PyObject*> objects) {
  std::sort(objects.begin(), objects.end());  // As WrittenPages likes to be asked.
  for (PyObject* object : objects) {
    if (!Watch(object)) g_exit->all_watched = false;
  }
  PyErr_Clear();
}

void WatchBefore() {
  std::vector<PyObject*> objects;
  g_exit->fence.VisitBefore([&objects](PyObject* object) {
    if (IsToWatch(object)) objects.push_back(object);
  });
  g_exit->all_watched = true;
  WatchAll(std::move(objects));
}

// True for a class that nobody can have given a __del__ since the image was captured.
bool IsUntouchedClass(const FastExit::Watched& watched) {
  return !watched.finalizable && g_exit->written.IsUntouched(FinalizerPlace(watched.object));
}

// Shows what the references refer to. False: somebody must look at all objects.
bool VisitWatched(const GcFence::Visitor& visit) {
  if (!g_exit->all_watched) return false;
  for (const FastExit::Watched& watched : g_exit->watched) {
    if (IsUntouchedClass(watched)) continue;
    PyObject* object = PyWeakref_GET_OBJECT(watched.reference.get());
    if (object == Py_None) continue;
    if (IsHeapType(object) && GivesFinalizer(object)) return false;
    visit(object);
  }
  return true;
}

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
  PyRef signal = PyRef::Steal(PyImport_ImportModule("_signal"));
  PyRef handler = PyRef::Steal(PyCFunction_New(&kOnSpareSignal, nullptr));
  for (int number = SIGRTMAX; signal && handler && number >= SIGRTMIN; --number) {
    struct sigaction action;
    if (sigaction(number, nullptr, &action) != 0 || action.sa_handler != SIG_DFL) continue;
    if (!PyRef::Steal(PyObject_CallMethod(signal.get(), "signal", "iO", number, handler.get())))
      return false;
    g_first_reset = number;
    return true;
  }
  return false;
}

// Into CPython's hands, what was kept from them; before Begin() or where nothing has been set
// aside.
void GiveBack() {
  g_exit->fence.ShowBefore();
  g_exit->tables.clear();
  g_exit->thread_locals = PyRef();
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
  if (g_armed && Py_IsInitialized()) Py_AddPendingCall(RegisterAgain, nullptr);
}

bool RegisterAtExit() {
  PyRef capsule = PyRef::Steal(PyCapsule_New(g_exit, nullptr, OnForgotten));
  PyRef function = capsule ? PyRef::Steal(PyCFunction_New(&kOnAtExit, capsule.get())) : PyRef();
  return function &&
         PyRef::Steal(PyObject_CallFunctionObjArgs(g_exit->at_exit.get(), function.get(), nullptr));
}

int RegisterAgain(void*) {
  if (g_armed && Py_IsInitialized() && !RegisterAtExit()) PyErr_Clear();
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
// OnSignalReset

// What must not be finalised before the program is done printing.
std::unordered_set<PyObject*> StandardStreams() {
  std::unordered_set<PyObject*> found;
  for (const char* name : {"__stdin__", "__stdout__", "__stderr__"}) {
    PyObject* stream = PySys_GetObject(name);
    if (stream == nullptr || stream == Py_None) continue;
    g_exit->streams.push_back(PyRef::Share(stream));
    found.insert(stream);
    PyRef buffer = PyRef::Steal(PyObject_GetAttrString(stream, "buffer"));
    if (buffer) found.insert(buffer.get());
    PyRef raw = buffer ? PyRef::Steal(PyObject_GetAttrString(buffer.get(), "raw")) : PyRef();
    if (raw) found.insert(raw.get());
    PyErr_Clear();
  }
  return found;
}

// A program may end inside a generator, when C code that it calls comes upon SystemExit.
bool IsRunning(PyObject* object) {
  const char* attribute = PyGen_CheckExact(object)              ? "gi_running"
                          : PyCoro_CheckExact(object)           ? "cr_running"
                          : Py_TYPE(object) == &PyAsyncGen_Type ? "ag_running"
                                                                : nullptr;
  if (attribute == nullptr) return false;
  PyRef running = PyRef::Steal(PyObject_GetAttrString(object, attribute));
  PyErr_Clear();
  return running && PyObject_IsTrue(running.get()) == 1;
}

// The collector may have moved a preloaded object across the line.
bool WasBefore(PyObject* object) {
  const auto known = g_exit->noticed.find(object);
  if (known == g_exit->noticed.end() || known->second.type != Py_TYPE(object)) return false;
  PyObject* reference = known->second.reference.get();
  return reference == nullptr || PyWeakref_GET_OBJECT(reference) == object;
}

bool IsInstalledCode(PyObject* owner, const char* attribute) {
  PyRef code = PyRef::Steal(PyObject_GetAttrString(owner, attribute));
  PyRef name = code ? PyRef::Steal(PyObject_GetAttrString(code.get(), "co_filename")) : PyRef();
  std::string file;
  FileSystemBytes(name.get(), &file);
  PyErr_Clear();
  return !file.empty() && IsInstalledFile(g_exit->library, file);
}

bool IsExactly(PyObject* object, const PyRef& type) {
  return reinterpret_cast<PyObject*>(Py_TYPE(object)) == type.get();
}

// Whose end nobody outside notices. Not of a class made from these, which may have its own close().
bool IsFileInMemory(PyObject* object) {
  return IsExactly(object, g_exit->bytes_io) || IsExactly(object, g_exit->string_io);
}

// True if we may finalise this preloaded object, a little later than CPython might have: a closed
// file, one in memory, or what runs code of an installed library. An open file must be closed in
// its turn.
bool IsHarmless(PyObject* object) {
  if (IsFileInMemory(object)) return true;
  if (PyGen_CheckExact(object)) return IsInstalledCode(object, "gi_code");
  PyRef closed = PyRef::Steal(PyObject_GetAttrString(object, "closed"));
  if (closed && closed.get() == Py_True) return true;
  PyErr_Clear();
  PyRef method =
      PyRef::Steal(PyObject_GetAttrString(reinterpret_cast<PyObject*>(Py_TYPE(object)), "__del__"));
  PyErr_Clear();
  return method && IsInstalledCode(method.get(), "__code__");
}

// False if one of them is not ours to finalise.
bool FindPreloadedWithFinalizer() {
  const std::unordered_set<PyObject*> streams = StandardStreams();
  const auto take = [&](PyObject* object) {
    if (HasFinalizer(object) && streams.count(object) == 0)
      g_exit->finalizable_now.push_back(PyRef::Share(object));
  };
  if (!VisitWatched(take)) {
    g_exit->finalizable_now.clear();
    g_exit->fence.VisitBefore(take);
    g_exit->fence.VisitAfter([&](PyObject* object) {
      if (WasBefore(object)) take(object);
    });
  }
  for (const PyRef& object : g_exit->finalizable_now) {
    if (IsRunning(object.get()) || !IsHarmless(object.get())) return false;
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
  if (PyList_GET_SIZE(g_exit->callbacks.get()) != 0) return "gc.callbacks is not empty";
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

// __main__ is older than the line, but the program's.
void ReturnMain(PyObject* main) {
  if (main == nullptr || !PyModule_Check(main) || !g_exit->preloaded.Contains(main)) return;
  g_exit->fence.MoveAfter(main);
  g_exit->fence.MoveAfter(PyModule_GetDict(main));
}

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

// Leaves in sys.modules what CPython shall take apart. What it shall not is not touched at all: in
// a process restored from an image, looking costs less than writing, which copies a page.
bool SortModules(PyObject* modules, PyObject* main, bool as_noted) {
  PyRef rest = PyRef::Steal(PyDict_New());
  Py_ssize_t position = 0;
  PyObject *name, *module;
  const auto sort = [&](PyObject* key, PyObject* value) {
    return SortModule(key, value, main, rest.get());
  };
  if (!rest || !g_exit->preloaded.Visit(modules, as_noted, sort)) return false;
  while (PyDict_Next(rest.get(), &position, &name, &module)) {
    if (PyDict_DelItem(modules, name) < 0) return false;
  }
  Swap(modules, rest.get());
  g_exit->set_aside = rest.release();
  PyObject_GC_UnTrack(g_exit->set_aside);  // A collection would look at all that it holds.
  return true;
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
void OnSysWiped(PyObject*);
void OnBuiltinsWiped(PyObject*);
void OnInterpreterCleared(PyObject*);

// The last of sys.modules, so that it is wiped first.
bool AddOurModule(PyObject* modules) {
  PyObject* module = PyModule_New(kName);  // Never let go.
  PyRef capsule = PyRef::Steal(PyCapsule_New(g_exit, nullptr, OnModulesRemoved));
  return module != nullptr && capsule &&
         PyDict_SetItemString(PyModule_GetDict(module), "exit", capsule.get()) == 0 &&
         PyDict_SetItemString(modules, kName, module) == 0;
}

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

void SetPreloadedAside() {
  PyObject* modules = PyImport_GetModuleDict();
  const auto keys = [modules] { return reinterpret_cast<PyDictObject*>(modules)->ma_keys; };
  const auto* before = keys();
  bool as_noted = g_exit->preloaded.IsAsNoted(modules);
  if (!AddOurModule(modules)) return GiveBack();
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
    PyGC_Collect();
  }
  PyErr_Restore(type, value, traceback);
}

// ------------------------------------------------------------------------------------------------
// OnModulesRemoved

// Objects of the program that are still alive although CPython has collected all its garbage:
// something preloaded holds them. Had that been garbage too, they would have gone with it, or
// later, or never; only CPython itself can tell.
struct Survivors {
  PyTypeObject* noticed = nullptr;  // The type of one whose end somebody could notice.
  std::vector<PyObject*> weakly_referenced;
  std::unordered_set<PyObject*> globals;  // Of functions.
};

// An extension's function that is called when the module is freed.
bool IsFreeingNoticed(PyObject* object) {
  const PyModuleDef* definition = PyModule_CheckExact(object) ? PyModule_GetDef(object) : nullptr;
  return definition != nullptr && definition->m_free != nullptr &&
         !g_exit->quiet_types.ContainCode(reinterpret_cast<const void*>(definition->m_free));
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

Survivors FindSurvivors() {
  Survivors found;
  std::unordered_set<PyTypeObject*> finalizing_types;
  g_exit->quiet_types.Forget();  // Types have come and gone since, and their addresses with them.
  g_exit->fence.VisitAfter([&](PyObject* object) {
    if ((IsEndNoticed(g_exit, object) && !WasBefore(object)) ||
        (IsFreeingNoticed(object) && !g_exit->preloaded.Contains(object)))
      found.noticed = Py_TYPE(object);
    if (IsHeapType(object) && GivesFinalizer(object))
      finalizing_types.insert(reinterpret_cast<PyTypeObject*>(object));
    if (PyFunction_Check(object)) {
      found.globals.insert(PyFunction_GET_GLOBALS(object));
    } else if (Py_TYPE(object)->tp_weaklistoffset != 0 && !PyType_Check(object)) {
      if (*PyObject_GET_WEAKREFS_LISTPTR(object) != nullptr)
        found.weakly_referenced.push_back(object);
    }
  });
  if (PyObject* object = FindInstance(finalizing_types)) found.noticed = Py_TYPE(object);
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

// _PyModule_ClearDict: names with one leading underscore first.
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

// The names of program modules that are gone themselves.
std::vector<PyRef> OrphanedNames(const Survivors& survivors) {
  std::vector<PyRef> found;
  for (auto names = g_exit->program_dicts.rbegin(); names != g_exit->program_dicts.rend();
       ++names) {
    if (survivors.globals.count(*names) != 0) found.push_back(PyRef::Share(*names));
  }
  return found;
}

// As finalize_modules_clear_weaklist does it.
void WipeListed() {
  for (auto listed = g_exit->listed.rbegin(); listed != g_exit->listed.rend(); ++listed) {
    PyRef module = PyRef::Share(PyWeakref_GET_OBJECT(listed->reference.get()));
    if (module.get() == Py_None) continue;
    PyObject* names = PyModule_GetDict(module.get());
    if (names != g_exit->sys_names && names != g_exit->builtins_names) WipeNames(names);
  }
}

// What CPython would have done with everything in sight: another collection, then what is still
// alive is wiped.
void TakeAllApart(PyTypeObject* type) {
  if (g_exit->explain) {
    Explain(std::string("exit: full teardown, preloaded modules hold objects of the program, a ") +
            type->tp_name + " among them");
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
  const int enabled = PyGC_Enable();
  PyGC_Collect();
  if (!enabled) PyGC_Disable();
  WipeListed();
}

// What comes now mostly frees: a million pieces by the destructors of libraries. Without fastbins
// each is joined with its neighbours once, and not put aside first (malloc_consolidate in glibc's
// malloc.c): a tenth of that time.
void ExpectFrees() { mallopt(M_MXFAST, 0); }

void LeavePreloadedIntact(const Survivors& survivors) {
  if (!g_exit->resumed) ExpectFrees();
  std::vector<PyRef> orphans = OrphanedNames(survivors);
  for (PyObject* object : survivors.weakly_referenced) ForgetCallbacks(object);
  for (const PyRef& object : g_exit->finalizable_now) PyObject_CallFinalizer(object.get());
  for (const PyRef& names : orphans) WipeNames(names.get());
  PyRef capsule = PyRef::Steal(PyCapsule_New(g_exit, nullptr, OnSysWiped));
  if (capsule) PySys_SetObject(kName, capsule.get());
}

void OnModulesRemoved(PyObject*) {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  Survivors survivors = FindSurvivors();
  if (survivors.noticed != nullptr) {
    TakeAllApart(survivors.noticed);
  } else {
    LeavePreloadedIntact(survivors);
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

using SigAction = int (*)(int, const struct sigaction*, struct sigaction*);
SigAction g_sigaction = nullptr;

SigAction RealSigAction() {
  if (g_sigaction == nullptr)
    g_sigaction = reinterpret_cast<SigAction>(dlsym(RTLD_NEXT, "sigaction"));
  return g_sigaction;
}

// dlsym must not be called in a signal handler, sigaction may.
__attribute__((constructor)) void FindSigAction() { RealSigAction(); }

// Only _PySignal_Fini does this with the GIL of a CPython that is no longer initialised. Where it
// is not the main thread that ends the program (Py_Exit on another), what we keep is not the
// main thread's, and CPython does it all.
void OnSignalReset() {
  if (!g_armed || Py_IsInitialized() || !PyGILState_Check()) return;
  g_armed = false;
  if (syscall(SYS_gettid) == getpid()) return Begin();
  GiveBack();
}

}  // namespace

void ArmFastExit(bool explain) {
  g_exit = new FastExit();
  g_exit->explain = explain;
  g_armed = Prepare(g_exit);
  if (g_armed) WatchBefore();
  g_armed = g_armed && RegisterAtExit();
  PyErr_Clear();
  if (!g_armed && explain) Explain("exit: full teardown, this CPython is not one we know");
}

void HidePreloaded() {
  if (!g_armed) return;
  PrepareReturnFromFinalize();
  g_exit->preloaded.NoteEntries();
  g_exit->preloaded.VisitAddresses([](const void* address) { g_exit->written.Ask(address); });
  g_exit->tables = OwnTables(g_exit->fence, g_exit->builtins_names);
  KeepFirstDicts();
  KeepThreadLocals();
  g_exit->module_index.Note(g_exit->fence);
  g_exit->noticed.clear();
  g_exit->fence.HideBefore();
  g_exit->fence.EmptyFreeLists(g_exit->callbacks.get());
}

void HideResumed(bool explain, bool full) {
  if (!g_armed || !g_exit->fence.hidden()) return;
  g_exit->explain = explain;
  g_exit->full = full;
  g_exit->resumed = true;
  std::vector<PyObject*> objects;
  g_exit->fence.VisitAfter([&objects](PyObject* object) {
    if (IsToWatch(object)) objects.push_back(object);
  });
  WatchAll(std::move(objects));
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

extern "C" __attribute__((visibility("default"))) int sigaction(int number,
                                                                const struct sigaction* action,
                                                                struct sigaction* old) noexcept {
  if (number == pylaunch::engine::g_first_reset && action != nullptr)
    pylaunch::engine::OnSignalReset();
  pylaunch::engine::NoteSignalAction(number, action);
  return pylaunch::engine::RealSigAction()(number, action, old);
}
