#include "launcher/engine/exit/exit_finalizers.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "launcher/engine/base/weak_reference.h"

namespace pylaunch::engine {

bool IsInstalledCode(PyObject* owner, const char* attribute) {
  PyRef code = PyRef::Steal(PyObject_GetAttrString(owner, attribute));
  PyRef name = code ? PyRef::Steal(PyObject_GetAttrString(code.get(), "co_filename")) : PyRef();
  std::string file;
  FileSystemBytes(name.get(), &file);
  PyErr_Clear();
  return !file.empty() && IsInstalledFile(g_exit->library, file);
}

namespace {

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

// True for a class that nobody can have given a __del__ since the image was captured.
bool IsUntouchedClass(const FastExit::Watched& watched) {
  return !watched.finalizable && g_exit->written.IsUntouched(FinalizerPlace(watched.object));
}

// Shows what the references refer to. False: somebody must look at all objects.
bool VisitWatched(const GcFence::Visitor& visit) {
  if (!g_exit->all_watched) return false;
  for (const FastExit::Watched& watched : g_exit->watched) {
    if (IsUntouchedClass(watched)) continue;
    PyObject* object = Referent(watched.reference.get());
    if (object == nullptr) continue;
    if (IsHeapType(object) && GivesFinalizer(object)) return false;
    visit(object);
  }
  return true;
}

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

// True if the filters that CPython goes by ignore every ResourceWarning: of one filter after the
// other (category second, action first; Python/_warnings.c, get_filter) the first that can match.
bool AreResourceWarningsIgnored() {
  if (!g_exit->warnings) return false;
  PyRef filters = PyRef::Steal(PyObject_GetAttrString(g_exit->warnings.get(), "filters"));
  PyErr_Clear();
  if (!filters || !PyList_Check(filters.get())) return false;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(filters.get()); ++i) {
    PyObject *filter = PyList_GET_ITEM(filters.get(), i), *action, *message, *category, *module;
    int line;
    if (!PyArg_ParseTuple(filter, "UOOOi", &action, &message, &category, &module, &line))
      return PyErr_Clear(), false;
    if (!PyType_Check(category) ||
        !PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(PyExc_ResourceWarning),
                          reinterpret_cast<PyTypeObject*>(category))) {
      continue;
    }
    const bool ignore = PyUnicode_CompareWithASCIIString(action, "ignore") == 0;
    if (!ignore) return false;
    if (message == Py_None && module == Py_None && line == 0) return true;
  }
  return false;
}

// Null: it has none. Of types of CPython's own it is C code that answers, so that nobody notices
// the question.
PyRef Part(PyObject* object, const char* attribute) {
  PyRef part = PyRef::Steal(PyObject_GetAttrString(object, attribute));
  PyErr_Clear();
  return part;
}

// `part` of a generator, a coroutine or an asynchronous generator; null of anything else.
PyRef PartOfGenerator(PyObject* object, const std::string& part) {
  const char* prefix = PyGen_CheckExact(object)              ? "gi_"
                       : PyCoro_CheckExact(object)           ? "cr_"
                       : Py_TYPE(object) == &PyAsyncGen_Type ? "ag_"
                                                             : nullptr;
  return prefix == nullptr ? PyRef() : Part(object, (prefix + part).c_str());
}

// A program may end inside a generator, when C code that it calls comes upon SystemExit.
bool IsRunning(PyObject* object) {
  PyRef running = PartOfGenerator(object, "running");
  return running && PyObject_IsTrue(running.get()) == 1;
}

// Of an io.FileIO: closed, or only read from, where closing it warns of nothing.
bool IsQuietDescriptor(PyObject* file) {
  if (Part(file, "closed").get() == Py_True) return true;
  PyRef writable = PyRef::Steal(PyObject_CallMethod(file, "writable", nullptr));
  PyErr_Clear();
  return writable.get() == Py_False && AreResourceWarningsIgnored();
}

// A file whose end nobody outside notices: in memory, closed, or only read from. Not of a class
// made from these, which may have its own close().
bool IsQuietFile(PyObject* object) {
  if (IsExactly(object, g_exit->bytes_io) || IsExactly(object, g_exit->string_io)) return true;
  if (IsExactly(object, g_exit->file_io)) return IsQuietDescriptor(object);
  const bool text = IsExactly(object, g_exit->text_io);
  if (!text && !IsExactly(object, g_exit->writer) && !IsExactly(object, g_exit->reader) &&
      !IsExactly(object, g_exit->random)) {
    return false;
  }
  PyRef below = Part(object, text ? "buffer" : "raw");
  return below && IsQuietFile(below.get());
}

// True if all of the class, and of those that it is made from, is code of installed libraries.
bool IsOfInstalledCode(PyTypeObject* type) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(type->tp_mro); ++i) {
    PyObject* base = PyTuple_GET_ITEM(type->tp_mro, i);
    if (!IsHeapType(base)) continue;
    Py_ssize_t position = 0;
    PyObject *name, *value;
    PyObject* names = reinterpret_cast<PyTypeObject*>(base)->tp_dict;
    while (PyDict_Next(names, &position, &name, &value)) {
      if (PyFunction_Check(value) && !IsInstalledCode(value, "__code__")) return false;
    }
  }
  return true;
}

// True for a generator or the like that has come to its end: nothing is left to be closed
// (_PyGen_Finalize in Objects/genobject.c).
bool IsFinished(PyObject* object) { return PartOfGenerator(object, "frame").get() == Py_None; }

// True for a task of asyncio's with a result that nobody missed: TaskObj_finalize in
// Modules/_asynciomodule.c complains of others.
bool IsDoneTask(PyObject* object) {
  const PyTypeObject* type = Py_TYPE(object);
  if (std::string_view(type->tp_name) != "_asyncio.Task" ||
      !g_exit->quiet_types.ContainCode(reinterpret_cast<const void*>(type->tp_finalize))) {
    return false;
  }
  PyRef done = PyRef::Steal(PyObject_CallMethod(object, "done", nullptr));
  PyErr_Clear();
  return done.get() == Py_True && Part(object, "_log_traceback").get() == Py_False;
}

// sock_finalize in Modules/socketmodule.c warns, and closes what the process's end closes.
bool IsSocket(PyTypeObject* type) {
  const auto* finalizer = reinterpret_cast<const void*>(type->tp_finalize);
  while (type != nullptr && std::string_view(type->tp_name) != "_socket.socket") {
    type = type->tp_base;
  }
  return type != nullptr && reinterpret_cast<const void*>(type->tp_finalize) == finalizer &&
         g_exit->quiet_types.ContainCode(finalizer);
}

PyRef DelOf(PyTypeObject* type) {
  PyRef method = PyRef::Steal(PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "__del__"));
  PyErr_Clear();
  return method;
}

// True if we may finalise this preloaded object, a little later than CPython might have: a closed
// file, one in memory, or what runs code of an installed library. An open file must be closed in
// its turn.
bool IsHarmless(PyObject* object) {
  if (IsQuietFile(object)) return true;
  if (PyGen_CheckExact(object)) return IsInstalledCode(object, "gi_code");
  if (Part(object, "closed").get() == Py_True) return true;
  PyRef method = DelOf(Py_TYPE(object));
  return method && IsInstalledCode(method.get(), "__code__");
}

}  // namespace

bool IsOursToFinalise(PyObject* object) {
  if (IsQuietFile(object) || IsFinished(object) || IsDoneTask(object)) return true;
  if (PyGen_CheckExact(object)) return !IsRunning(object) && IsInstalledCode(object, "gi_code");
  if (IsSocket(Py_TYPE(object)))
    return AreResourceWarningsIgnored() && IsOfInstalledCode(Py_TYPE(object));
  PyRef method = DelOf(Py_TYPE(object));
  return method && PyFunction_Check(method.get()) && IsOfInstalledCode(Py_TYPE(object));
}

bool WasBefore(PyObject* object) {
  const auto known = g_exit->noticed.find(object);
  if (known == g_exit->noticed.end() || known->second.type != Py_TYPE(object)) return false;
  PyObject* reference = known->second.reference.get();
  return reference == nullptr || Referent(reference) == object;
}

void NoteNoticed(FastExit* exit) {
  exit->fence.VisitBefore([exit](PyObject* object) {
    if (HasFinalizer(object) || !exit->quiet_types.Contain(Py_TYPE(object)))
      exit->noticed.emplace(object, FastExit::Noticed{Py_TYPE(object), PyRef()});
  });
  for (auto& [object, noticed] : exit->noticed) {
    if (noticed.type->tp_weaklistoffset > 0)
      noticed.reference = PyRef::Steal(PyWeakref_NewRef(object, nullptr));
    PyErr_Clear();
  }
}

void WatchBefore() {
  std::vector<PyObject*> objects;
  g_exit->fence.VisitBefore([&objects](PyObject* object) {
    if (IsToWatch(object)) objects.push_back(object);
  });
  g_exit->all_watched = true;
  WatchAll(std::move(objects));
}

void WatchAfter() {
  std::vector<PyObject*> objects;
  g_exit->fence.VisitAfter([&objects](PyObject* object) {
    if (IsToWatch(object)) objects.push_back(object);
  });
  WatchAll(std::move(objects));
}

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

}  // namespace pylaunch::engine
