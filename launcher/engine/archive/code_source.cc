#include "launcher/engine/archive/code_source.h"

#include <marshal.h>
#include <structmember.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <memory>

#include "cache/pyc.h"
#include "launcher/engine/base/clock.h"
#include "launcher/engine/base/load_hook.h"
#include "launcher/engine/base/own_modules.h"
#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine {
namespace {

// load_hook and the slots of CodeSource call us with nothing of ours.
constinit struct {
  ArchiveSession* session = nullptr;
  const ImportlibTypes* types = nullptr;
  PyTypeObject* code_source_type = nullptr;
  PyObject* get_code_name = nullptr;  // "get_code", interned
  PyObject* loader_name = nullptr;    // "loader", interned
  PyObject* path_name = nullptr;      // "path", interned
  PyObject* warnings_name = nullptr;  // "warnings", interned
  PyObject* show_name = nullptr;      // "_showwarnmsg", interned
  unsigned shown = 0;                 // Warnings, in all that watch for them.
} g;

struct CodeSource {
  PyObject_HEAD PyObject* loader;  // Makes a cycle until the first call; hence garbage collected.
  std::string* path;               // Of the source file, as bytes.
};

CodeSource* Cast(PyObject* self) { return reinterpret_cast<CodeSource*>(self); }

// `loader.get_code` becomes the class's again. The loader's dict may have been changed by others
// meanwhile.
void Detach(PyObject* self) {
  PyRef dict = PyRef::Steal(PyObject_GenericGetDict(Cast(self)->loader, nullptr));
  if (dict && PyDict_GetItem(dict.get(), g.get_code_name) == self) {
    PyDict_DelItem(dict.get(), g.get_code_name);
  }
  PyErr_Clear();
}

// As importlib's _compile_bytecode: code compiled when the file lay elsewhere gets its present
// name.
bool FixFilename(PyObject* code, PyObject* path) {
  PyRef none =
      PyRef::Steal(PyObject_CallFunctionObjArgs(g.types->fix_co_filename, code, path, nullptr));
  return static_cast<bool>(none);
}

// Unmarshals without automatic collection. No code of the program runs meanwhile and nothing made
// here is garbage, yet the thousands of tuples in one module's code would each count towards a
// collection of everything made so far.
PyRef Unmarshal(std::string_view bytes) {
  int enabled = PyGC_Disable();
  PyRef code = PyRef::Steal(
      PyMarshal_ReadObjectFromString(bytes.data(), static_cast<Py_ssize_t>(bytes.size())));
  if (enabled != 0) PyGC_Enable();
  return code;
}

// New reference, or null without an exception: ask CPython. Without a stamp: only what is taken
// unasked.
PyObject* FromArchive(const std::string& path, PyObject* path_object,
                      const cache::SourceStamp* stamp, int64_t read_at_ns) {
  std::string_view bytes;
  if (stamp != nullptr ? !g.session->ReadCode(path, *stamp, read_at_ns, &bytes)
                       : !g.session->ReadUnaskedCode(path, &bytes)) {
    return nullptr;
  }
  PyRef code = Unmarshal(bytes);
  if (!code || !PyCode_Check(code.get()) || !FixFilename(code.get(), path_object)) {
    PyErr_Clear();
    g.session->RejectCode(path);
    return nullptr;
  }
  return code.release();
}

// How CPython will load this module next time: from a .pyc proved by the source's mtime and size,
// from one that is believed whatever the source says, or not from a .pyc as it stands (PEP 552; one
// whose hash is compared needs no care, since equal stamps mean equal sources).
enum class PycKind { kNone, kTimestamp, kBelieved };

PycKind ClassifyPyc(const std::string& pyc_path, const cache::SourceStamp& stamp) {
  std::unique_ptr<FILE, int (*)(FILE*)> file(fopen(pyc_path.c_str(), "rbe"), fclose);
  char head[cache::kPycHeader];
  if (!file || fread(head, 1, sizeof head, file.get()) != sizeof head) return PycKind::kNone;
  const auto magic = static_cast<uint32_t>(PyImport_GetMagicNumber());
  switch (cache::PycStateOf({head, sizeof head}, stamp, magic)) {
    case cache::PycState::kCurrent:
      return PycKind::kTimestamp;
    case cache::PycState::kHashed:
      return PycKind::kBelieved;
    case cache::PycState::kCheckedHash:
      return g.types->BelievesHashedBytecode() ? PycKind::kBelieved : PycKind::kNone;
    case cache::PycState::kUnusable:
    case cache::PycState::kStale:
      break;
  }
  return PycKind::kNone;
}

std::string PycPath(PyObject* path_object) {
  std::string pyc;
  PyRef cached =
      PyRef::Steal(PyObject_CallFunctionObjArgs(g.types->cache_from_source, path_object, nullptr));
  if (!cached || !FileSystemBytes(cached.get(), &pyc)) pyc.clear();
  PyErr_Clear();
  return pyc;
}

// Tells the archive about code that CPython itself found for `path`.
void Record(PyObject* code, const std::string& path, const cache::SourceStamp& stamp,
            int64_t read_at_ns, bool warned, const std::string& pyc, bool had_pyc) {
  PycKind kind = pyc.empty() ? PycKind::kNone : ClassifyPyc(pyc, stamp);
  if (kind == PycKind::kTimestamp) {
    g.session->AddFromPyc(path, stamp, read_at_ns, pyc, /*compiled=*/!had_pyc);
    return;
  }
  // No stamp of the source proves what a .pyc says that is believed without it.
  // And what compiling shows must be shown again.
  if (kind == PycKind::kBelieved || warned) return;
  PyRef bytes = PyRef::Steal(PyMarshal_WriteObjectToString(code, Py_MARSHAL_VERSION));
  if (!bytes) {
    PyErr_Clear();
    return;
  }
  g.session->AddFromCode(
      path, stamp, read_at_ns,
      {PyBytes_AS_STRING(bytes.get()), static_cast<size_t>(PyBytes_GET_SIZE(bytes.get()))});
}

PyObject* FromCpython(PyObject* loader, PyObject* fullname) {
  return PyObject_CallMethodObjArgs(loader, g.get_code_name, fullname, nullptr);
}

// Notices while it lives whether a warning is shown: compiling may show a SyntaxWarning, and where
// no .pyc keeps the result, stock shows it at every start. Where the module `warnings` is loaded,
// it shows them; else CPython does so itself (Python/_warnings.c, call_show_warning), and then what
// passes all of its filters is shown, which are the default ones: `-W` would have loaded the
// module.
class WarningWatch {
 public:
  WarningWatch() : shown_before_(g.shown) {
    PyRef warnings = PyRef::Steal(PyImport_GetModule(g.warnings_name));
    watching_ = warnings ? StandBeforeShow(std::move(warnings)) : StandBehindFilters();
    PyErr_Clear();
  }
  ~WarningWatch() {
    if (!watching_) return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    warnings_ ? LeaveShow() : LeaveFilters();
    PyErr_Clear();
    PyErr_Restore(type, value, traceback);
  }
  WarningWatch(const WarningWatch&) = delete;
  WarningWatch& operator=(const WarningWatch&) = delete;

  bool MayHaveShown() const { return !watching_ || g.shown != shown_before_; }

  static bool Init() {
    g.warnings_name = PyUnicode_InternFromString("warnings");
    g.show_name = PyUnicode_InternFromString("_showwarnmsg");
    return g.warnings_name != nullptr && g.show_name != nullptr;
  }

 private:
  bool StandBeforeShow(PyRef warnings) {
    show_ = PyRef::Steal(PyObject_GetAttr(warnings.get(), g.show_name));
    watch_ = show_ ? PyRef::Steal(PyCFunction_New(&kShow, show_.get())) : PyRef();
    if (!watch_ || PyObject_SetAttr(warnings.get(), g.show_name, watch_.get()) < 0) return false;
    warnings_ = std::move(warnings);
    return true;
  }

  void LeaveShow() {
    PyRef now = PyRef::Steal(PyObject_GetAttr(warnings_.get(), g.show_name));
    if (now.get() == watch_.get()) PyObject_SetAttr(warnings_.get(), g.show_name, show_.get());
  }

  // As the last of the filters one that matches nothing, and is asked about the message first
  // (Python/_warnings.c, get_filter).
  bool StandBehindFilters() {
    PyRef module = BuiltinModule("_warnings");
    if (module) filters_ = PyRef::Steal(PyObject_GetAttrString(module.get(), "filters"));
    if (!filters_ || !PyList_CheckExact(filters_.get())) return false;
    PyRef message = PyRef::Steal(PyModule_New("pylaunch"));
    PyRef match = PyRef::Steal(PyCFunction_New(&kMatch, nullptr));
    if (!message || !match ||
        PyObject_SetAttrString(message.get(), kMatch.ml_name, match.get()) < 0) {
      return false;
    }
    watch_ =
        PyRef::Steal(Py_BuildValue("(sOOOi)", "default", message.get(), Py_None, PyExc_Warning, 0));
    return watch_ && PyList_Append(filters_.get(), watch_.get()) == 0;
  }

  void LeaveFilters() {
    for (Py_ssize_t i = PyList_GET_SIZE(filters_.get()); i-- > 0;) {
      if (PyList_GET_ITEM(filters_.get(), i) != watch_.get()) continue;
      PyList_SetSlice(filters_.get(), i, i + 1, nullptr);
      return;
    }
  }

  static PyObject* Show(PyObject* show, PyObject* message) {
    ++g.shown;
    return PyObject_CallOneArg(show, message);
  }

  static PyObject* Match(PyObject*, PyObject*) {
    ++g.shown;
    Py_RETURN_FALSE;
  }

  inline static PyMethodDef kShow = {"_showwarnmsg", Show, METH_O, nullptr};
  inline static PyMethodDef kMatch = {"match", Match, METH_O, nullptr};

  bool watching_ = false;
  PyRef watch_;
  PyRef warnings_;  // Null: watched are the filters.
  PyRef show_;
  PyRef filters_;
  unsigned shown_before_ = 0;
};

PyObject* Call(PyObject* self, PyObject* args, PyObject* kwargs) {
  static const char* keywords[] = {"fullname", nullptr};
  PyObject* fullname;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:get_code", const_cast<char**>(keywords),
                                   &fullname))
    return nullptr;
  PyRef loader = PyRef::Share(Cast(self)->loader);
  if (!loader) {
    PyErr_SetString(PyExc_ReferenceError, "the loader is gone");
    return nullptr;
  }
  PyRef keep = PyRef::Share(self);  // Detach may drop the last reference.
  Detach(self);
  PyRef path_object = PyRef::Steal(PyObject_GetAttrString(loader.get(), "path"));
  PyRef name = PyRef::Steal(PyObject_GetAttrString(loader.get(), "name"));
  if (!path_object || !name) return nullptr;
  const std::string& path = *Cast(self)->path;
  std::string loader_path;
  int same_name = PyObject_RichCompareBool(name.get(), fullname, Py_EQ);
  if (same_name < 0) return nullptr;
  struct stat st;
  int64_t now = RealtimeNs();
  if (same_name == 0 || !FileSystemBytes(path_object.get(), &loader_path) || loader_path != path ||
      !g.types->Unchanged()) {
    return FromCpython(loader.get(), fullname);
  }
  if (g.types->BelievesHashedBytecode() &&
      ClassifyPyc(PycPath(path_object.get()), {}) == PycKind::kBelieved) {
    return FromCpython(loader.get(), fullname);
  }
  if (PyObject* code = FromArchive(path, path_object.get(), nullptr, now)) return code;
  if (stat(path.c_str(), &st) != 0) return FromCpython(loader.get(), fullname);
  cache::SourceStamp stamp = cache::SourceStampOf(st);
  if (PyObject* code = FromArchive(path, path_object.get(), &stamp, now)) return code;
  std::string pyc = PycPath(path_object.get());
  bool had_pyc = access(pyc.c_str(), F_OK) == 0;
  WarningWatch watch;
  PyRef code = PyRef::Steal(FromCpython(loader.get(), fullname));
  if (code && PyCode_Check(code.get())) {
    Record(code.get(), path, stamp, now, watch.MayHaveShown(), pyc, had_pyc);
  }
  return code.release();
}

int Traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(Cast(self)->loader);
  return 0;
}

int Clear(PyObject* self) {
  Py_CLEAR(Cast(self)->loader);
  return 0;
}

void Dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  Clear(self);
  delete Cast(self)->path;
  type->tp_free(self);
  Py_DECREF(type);
}

// copy.copy and pickle of a loader that has not been used yet give the plain method back.
PyObject* Reduce(PyObject* self, PyObject*) {
  PyRef builtins = BuiltinModule("builtins");
  if (!builtins || Cast(self)->loader == nullptr) return nullptr;
  PyRef getattr = PyRef::Steal(PyObject_GetAttrString(builtins.get(), "getattr"));
  if (!getattr) return nullptr;
  return Py_BuildValue("O(Os)", getattr.get(), Cast(self)->loader, "get_code");
}

PyMethodDef kMethods[] = {{"__reduce__", Reduce, METH_NOARGS, nullptr},
                          {nullptr, nullptr, 0, nullptr}};

PyType_Slot kSlots[] = {{Py_tp_call, reinterpret_cast<void*>(Call)},
                        {Py_tp_traverse, reinterpret_cast<void*>(Traverse)},
                        {Py_tp_clear, reinterpret_cast<void*>(Clear)},
                        {Py_tp_dealloc, reinterpret_cast<void*>(Dealloc)},
                        {Py_tp_methods, kMethods},
                        {0, nullptr}};

PyType_Spec kSpec = {"pylaunch.CodeSource", sizeof(CodeSource), 0,
                     Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                     kSlots};

// The loader's `get_code` is ours while the import system loads a module by it, and not before: a
// loader that is only looked at (importlib.util.find_spec) equals the one that stock would make.
// Empty if this loader is not ordinary.
PyRef AttachTo(PyObject* spec) {
  PyRef loader = PyRef::Steal(PyObject_GetAttr(spec, g.loader_name));
  if (!loader || Py_TYPE(loader.get()) != g.types->source_loader) return PyRef();
  PyRef dict = PyRef::Steal(PyObject_GenericGetDict(loader.get(), nullptr));
  PyRef path_object = PyRef::Steal(PyObject_GetAttr(loader.get(), g.path_name));
  std::string path;
  if (!dict || PyDict_Contains(dict.get(), g.get_code_name) != 0 || !path_object ||
      !FileSystemBytes(path_object.get(), &path) || !path.starts_with('/')) {
    return PyRef();
  }
  PyRef self = PyRef::Steal(g.code_source_type->tp_alloc(g.code_source_type, 0));
  if (!self) return PyRef();
  Cast(self.get())->loader = loader.release();
  Cast(self.get())->path = new std::string(std::move(path));
  return PyDict_SetItem(dict.get(), g.get_code_name, self.get()) == 0 ? std::move(self) : PyRef();
}

intptr_t OnLoadBegins(PyObject* spec) {
  PyRef source = AttachTo(spec);
  PyErr_Clear();
  return reinterpret_cast<intptr_t>(source.release());
}

void OnLoadEnds(PyObject*, PyObject*, intptr_t begun) {
  PyRef source = PyRef::Steal(reinterpret_cast<PyObject*>(begun));
  if (!source || Py_REFCNT(source.get()) == 1) return;
  PyObject *type, *value, *traceback;  // Not asked for code.
  PyErr_Fetch(&type, &value, &traceback);
  Detach(source.get());
  PyErr_Restore(type, value, traceback);
}

}  // namespace

bool InitCodeSource(ArchiveSession* session, const ImportlibTypes* types) {
  g.session = session;
  g.types = types;
  g.get_code_name = PyUnicode_InternFromString("get_code");
  g.code_source_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&kSpec));
  g.loader_name = PyUnicode_InternFromString("loader");
  g.path_name = PyUnicode_InternFromString("path");
  return g.get_code_name != nullptr && g.loader_name != nullptr && g.path_name != nullptr &&
         g.code_source_type != nullptr && WarningWatch::Init() &&
         ListenToLoads({OnLoadBegins, OnLoadEnds});
}

}  // namespace pylaunch::engine
