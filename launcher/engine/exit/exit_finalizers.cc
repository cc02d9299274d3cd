#include "launcher/engine/exit/exit_finalizers.h"

#include <algorithm>
#include <string>
#include <unordered_set>
#include <utility>

#include "launcher/engine/base/weak_reference.h"

namespace pylaunch::engine {
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

bool IsInstalledCode(PyObject* owner, const char* attribute) {
  PyRef code = PyRef::Steal(PyObject_GetAttrString(owner, attribute));
  PyRef name = code ? PyRef::Steal(PyObject_GetAttrString(code.get(), "co_filename")) : PyRef();
  std::string file;
  FileSystemBytes(name.get(), &file);
  PyErr_Clear();
  return !file.empty() && IsInstalledFile(g_exit->library, file);
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

}  // namespace

bool IsEndNoticed(FastExit* exit, PyObject* object) {
  return HasFinalizer(object) || !exit->quiet_types.Contain(Py_TYPE(object));
}

bool WasBefore(PyObject* object) {
  const auto known = g_exit->noticed.find(object);
  if (known == g_exit->noticed.end() || known->second.type != Py_TYPE(object)) return false;
  PyObject* reference = known->second.reference.get();
  return reference == nullptr || Referent(reference) == object;
}

void NoteNoticed(FastExit* exit) {
  exit->fence.VisitBefore([exit](PyObject* object) {
    if (IsEndNoticed(exit, object))
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
