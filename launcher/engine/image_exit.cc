#include "launcher/engine/image_exit.h"

#include <Python.h>
#include <frameobject.h>  // PyFrame_Type, in 3.10.

#include <algorithm>
#include <set>
#include <string>
#include <string_view>

#include "launcher/engine/py_ref.h"

#pragma weak PyBool_Type
#pragma weak PyByteArray_Type
#pragma weak PyBytes_Type
#pragma weak PyCFunction_Type
#pragma weak PyCMethod_Type
#pragma weak PyCell_Type
#pragma weak PyClassMethodDescr_Type
#pragma weak PyClassMethod_Type
#pragma weak PyComplex_Type
#pragma weak PyDictProxy_Type
#pragma weak PyEllipsis_Type
#pragma weak PyExc_BaseException
#pragma weak PyFloat_Type
#pragma weak PyFrame_Type
#pragma weak PyFrozenSet_Type
#pragma weak PyFunction_Type
#pragma weak PyGen_Type
#pragma weak PyGetSetDescr_Type
#pragma weak PyLong_Type
#pragma weak PyMemberDescr_Type
#pragma weak PyMethodDescr_Type
#pragma weak PyMethod_Type
#pragma weak PyModule_Type
#pragma weak PyProperty_Type
#pragma weak PyRange_Type
#pragma weak PySet_Type
#pragma weak PySlice_Type
#pragma weak PyStaticMethod_Type
#pragma weak PyTraceBack_Type
#pragma weak PyTuple_Type
#pragma weak PyType_Type
#pragma weak PyBaseObject_Type
#pragma weak PySuper_Type
#pragma weak PyWrapperDescr_Type
#pragma weak _PyWeakref_CallableProxyType
#pragma weak _PyWeakref_ProxyType
#pragma weak _PyWeakref_RefType
#pragma weak _Py_FalseStruct

namespace pylaunch::engine {
namespace {

bool g_watching = false;
bool g_frozen = false;
// What there was before preloading, so that CPython's own modules end as ever.
std::set<std::string>* g_started_with = nullptr;
PyObject* g_preloaded = nullptr;    // Names of modules: a list.
PyObject* g_finalizable = nullptr;  // Weak references to preloaded objects that have a finalizer.

PyRef Call(const char* module, const char* function) {
  PyRef from = PyRef::Steal(PyImport_ImportModule(module));
  return from ? PyRef::Steal(PyObject_CallMethod(from.get(), function, nullptr)) : PyRef();
}

// Types of CPython's own whose objects only let go of others when they end.
bool IsPlain(const PyTypeObject* type) {
  static const PyTypeObject* const kPlain[] = {
      &PyBaseObject_Type,  &PyBool_Type,         &PyByteArray_Type,   &PyBytes_Type,
      &PyCFunction_Type,   &PyCMethod_Type,      &PyCell_Type,        &PyClassMethodDescr_Type,
      &PyClassMethod_Type, &PyCode_Type,         &PyComplex_Type,     &PyDictProxy_Type,
      &PyDict_Type,        &PyEllipsis_Type,     &PyFloat_Type,       &PyFrame_Type,
      &PyFrozenSet_Type,   &PyFunction_Type,     &PyGetSetDescr_Type, &PyList_Type,
      &PyLong_Type,        &PyMemberDescr_Type,  &PyMethodDescr_Type, &PyMethod_Type,
      &PyModule_Type,      &PyProperty_Type,     &PyRange_Type,       &PySet_Type,
      &PySlice_Type,       &PyStaticMethod_Type, &PySuper_Type,       &PyTraceBack_Type,
      &PyTuple_Type,       &PyType_Type,         &PyUnicode_Type,     &PyWrapperDescr_Type,
      Py_TYPE(Py_None)};
  for (const PyTypeObject* plain : kPlain) {
    if (type == plain) return true;
  }
  return false;
}

bool IsStaticException(PyTypeObject* type) {
  return (type->tp_flags & Py_TPFLAGS_HEAPTYPE) == 0 &&
         (type->tp_flags & Py_TPFLAGS_BASE_EXC_SUBCLASS) != 0;
}

// A class written in Python, without __del__, of plain objects.
bool IsPlainClass(PyTypeObject* type) {
  static destructor python_class = [] {
    PyRef spec = PyRef::Steal(PyImport_ImportModule("_frozen_importlib"));
    PyRef made = spec ? PyRef::Steal(PyObject_GetAttrString(spec.get(), "ModuleSpec")) : PyRef();
    return made ? reinterpret_cast<PyTypeObject*>(made.get())->tp_dealloc : nullptr;
  }();
  if (python_class == nullptr) return false;
  for (; (type->tp_flags & Py_TPFLAGS_HEAPTYPE) != 0; type = type->tp_base) {
    if (type->tp_dealloc != python_class || type->tp_finalize != nullptr ||
        type->tp_del != nullptr) {
      return false;
    }
  }
  return IsPlain(type) || IsStaticException(type);
}

bool IsUnheardWeakref(PyObject* object) {
  return PyWeakref_Check(object) &&
         reinterpret_cast<PyWeakReference*>(object)->wr_callback == nullptr;
}

// A standard stream's, which does not close its descriptor.
bool IsBorrowedDescriptor(PyObject* object) {
  if (std::string(Py_TYPE(object)->tp_name) != "_io.FileIO") return false;
  PyRef closefd = PyRef::Steal(PyObject_GetAttrString(object, "closefd"));
  PyErr_Clear();
  return closefd.get() == Py_False;
}

// Types of the standard library's C modules of which the same is true.
bool IsPlainByName(const PyTypeObject* type) {
  static constexpr std::string_view kPlain[] = {"_abc._abc_data",
                                                "_random.Random",
                                                "_struct.Struct",
                                                "_thread.RLock",
                                                "_thread.lock",
                                                "collections.OrderedDict",
                                                "collections.defaultdict",
                                                "collections.deque",
                                                "functools.partial",
                                                "itertools.count",
                                                "operator.attrgetter",
                                                "operator.itemgetter",
                                                "re.Match",
                                                "re.Pattern",
                                                "types.SimpleNamespace"};
  if (type->tp_finalize != nullptr || type->tp_del != nullptr) return false;
  return std::find(std::begin(kPlain), std::end(kPlain), type->tp_name) != std::end(kPlain);
}

bool EndsSilently(PyObject* object) {
  PyTypeObject* type = Py_TYPE(object);
  return IsPlainByName(type) || IsPlain(type) || IsStaticException(type) || IsPlainClass(type) ||
         IsUnheardWeakref(object) || IsBorrowedDescriptor(object);
}

// Objects that the collector does not know are found through those that it knows.
int VisitUntracked(PyObject* object, void* depth_left) {
  if (PyObject_GC_IsTracked(object)) return 0;
  if (!EndsSilently(object)) return 1;
  auto* depth = static_cast<int*>(depth_left);
  if (!PyObject_IS_GC(object) || Py_TYPE(object)->tp_traverse == nullptr || *depth == 0) return 0;
  --*depth;
  const int found = Py_TYPE(object)->tp_traverse(object, VisitUntracked, depth_left);
  ++*depth;
  return found;
}

bool LeavesSilently(PyObject* object) {
  constexpr int kDepth = 64;
  int depth = kDepth;
  if (!EndsSilently(object)) return false;
  traverseproc traverse = Py_TYPE(object)->tp_traverse;
  return traverse == nullptr || traverse(object, VisitUntracked, &depth) == 0;
}

bool IsAlone() {
  PyInterpreterState* interpreter = PyInterpreterState_Head();
  return PyInterpreterState_Next(interpreter) == nullptr &&
         PyThreadState_Next(PyInterpreterState_ThreadHead(interpreter)) == nullptr;
}

// All that is not frozen is the program's.
bool ProgramLeavesSilently() {
  if (!IsAlone()) return false;
  PyRef objects = Call("gc", "get_objects");
  if (!objects || !PyList_Check(objects.get())) return false;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(objects.get()); ++i) {
    PyObject* object = PyList_GET_ITEM(objects.get(), i);
    if (object != objects.get() && !LeavesSilently(object)) return false;
  }
  return true;
}

void FinalizePreloaded() {
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(g_finalizable); ++i) {
    PyRef object = PyRef::Steal(PyObject_CallNoArgs(PyList_GET_ITEM(g_finalizable, i)));
    if (object && object.get() != Py_None) PyObject_CallFinalizer(object.get());
    PyErr_Clear();
  }
}

void ForgetPreloadedModules() {
  PyObject* modules = PyImport_GetModuleDict();
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(g_preloaded); ++i) {
    PyObject* name = PyList_GET_ITEM(g_preloaded, i);
    PyObject* module = PyDict_GetItemWithError(modules, name);
    if (module == nullptr) continue;
    Py_INCREF(module);  // For good.
    PyDict_DelItem(modules, name);
  }
  PyErr_Clear();
}

PyObject* OnExit(PyObject*, PyObject*) {
  if (g_frozen && ProgramLeavesSilently()) {
    FinalizePreloaded();
    // A finalizer may have made something.
    if (ProgramLeavesSilently()) ForgetPreloadedModules();
  } else if (g_frozen) {
    Call("gc", "unfreeze");
  }
  PyErr_Clear();
  Py_RETURN_NONE;
}

PyMethodDef kOnExit = {"_pylaunch_exit", OnExit, METH_NOARGS, nullptr};

// `atexit` becomes part of sys.modules only where stock has it there.
bool RegisterFirst() {
  PyObject* modules = PyImport_GetModuleDict();
  const bool was_there = PyDict_GetItemString(modules, "atexit") != nullptr;
  PyRef atexit = PyRef::Steal(PyImport_ImportModule("atexit"));
  PyRef count =
      atexit ? PyRef::Steal(PyObject_CallMethod(atexit.get(), "_ncallbacks", nullptr)) : PyRef();
  const bool first = count && PyLong_AsLong(count.get()) == 0;
  PyRef function = PyRef::Steal(PyCFunction_New(&kOnExit, nullptr));
  PyRef done =
      first && function
          ? PyRef::Steal(PyObject_CallMethod(atexit.get(), "register", "O", function.get()))
          : PyRef();
  if (atexit && !was_there) PyDict_DelItemString(modules, "atexit");
  return static_cast<bool>(done);
}

bool HasFinalizer(PyObject* object) {
  PyTypeObject* type = Py_TYPE(object);
  const bool python = (type->tp_flags & Py_TPFLAGS_HEAPTYPE) != 0 || PyGen_CheckExact(object);
  return python && type->tp_finalize != nullptr && type->tp_weaklistoffset > 0;
}

PyRef WeakReferences(PyObject* objects) {
  PyRef references = PyRef::Steal(PyList_New(0));
  for (Py_ssize_t i = 0; references && i < PyList_GET_SIZE(objects); ++i) {
    PyObject* object = PyList_GET_ITEM(objects, i);
    if (!HasFinalizer(object)) continue;
    PyRef reference = PyRef::Steal(PyWeakref_NewRef(object, nullptr));
    if (reference) PyList_Append(references.get(), reference.get());
  }
  return references;
}

PyRef PreloadedNames() {
  PyRef preloaded = PyRef::Steal(PyList_New(0));
  PyObject *name, *module;
  PyObject* modules = PyImport_GetModuleDict();
  for (Py_ssize_t i = 0; preloaded && PyDict_Next(modules, &i, &name, &module);) {
    std::string text;
    if (FileSystemBytes(name, &text) && g_started_with->count(text) == 0) {
      PyList_Append(preloaded.get(), name);
    }
  }
  return preloaded;
}

}  // namespace

void WatchExit() {
  g_started_with = new std::set<std::string>;
  PyObject *name, *module;
  PyObject* modules = PyImport_GetModuleDict();
  for (Py_ssize_t i = 0; PyDict_Next(modules, &i, &name, &module);) {
    std::string text;
    if (FileSystemBytes(name, &text)) g_started_with->insert(text);
  }
  g_watching = RegisterFirst();
  PyErr_Clear();
}

void FreezeResumed() {
  if (g_frozen) Call("gc", "freeze");
  PyErr_Clear();
}

void FreezePreloaded() {
  if (!g_watching) return;
  PyRef objects = Call("gc", "get_objects");
  if (!objects || !PyList_Check(objects.get())) return;
  g_finalizable = WeakReferences(objects.get()).release();
  g_preloaded = PreloadedNames().release();
  g_frozen =
      g_finalizable != nullptr && g_preloaded != nullptr && static_cast<bool>(Call("gc", "freeze"));
  PyErr_Clear();
}

}  // namespace pylaunch::engine
