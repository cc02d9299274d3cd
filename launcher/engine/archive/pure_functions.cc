#include "launcher/engine/archive/pure_functions.h"

#include <marshal.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/file_env.h"
#include "cache/memo.h"
#include "launcher/engine/base/clock.h"
#include "launcher/engine/base/dict_version.h"
#include "launcher/engine/base/known_functions.h"
#include "launcher/engine/base/load_hook.h"
#include "launcher/engine/base/own_modules.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/base/report.h"

extern "C" const PyConfig* _Py_GetConfig(void);

namespace pylaunch::engine {
namespace {

constexpr char kList[] = {
#include "pure_functions.inc"
};

// A call that is quicker is not worth an entry: proving it takes a stat for every file.
constexpr int64_t kWorthKeepingNs = 50'000'000;
constexpr size_t kMostFiles = 20'000;
constexpr size_t kMostSource = size_t{1} << 24;

// A name whose value must still be the object it was. Borrowed: to keep the values alive would show
// at exit. An address that another object got meanwhile is no danger for functions, whose code is
// compared too, and a replaced container must also have come to the same version tag.
struct Watched {
  std::string module;  // In sys.modules.
  std::string name;
  PyObject* value;
  PyObject* code;    // Of a function.
  uint64_t version;  // Of a dict.
};

// One function whose results are kept.
struct Kept {
  KnownFunction listed;
  PyObject* function;  // Borrowed; calls come from it.
  vectorcallfunc original;
  cache::Dependency module_file;
  std::vector<Watched> watched;
};

// load_hook and the vectorcall slots of functions call us with nothing of ours.
constinit struct {
  ArchiveSession* session = nullptr;
  bool explain = false;
  std::vector<KnownFunction>* listed = nullptr;
  PyObject* listed_modules = nullptr;  // frozenset of names
  PyObject* name = nullptr;            // "name", interned
  std::vector<std::unique_ptr<Kept>>* kept = nullptr;
} g;

// sys.modules[module].name, without importing anything; empty, without an exception, if absent.
PyRef Lookup(const std::string& module, const std::string& name) {
  PyRef module_name = PyRef::Steal(PyUnicode_FromString(module.c_str()));
  PyRef found = module_name ? PyRef::Steal(PyImport_GetModule(module_name.get())) : PyRef();
  PyRef value = found ? PyRef::Steal(PyObject_GetAttrString(found.get(), name.c_str())) : PyRef();
  PyErr_Clear();
  return value;
}

uint64_t VersionOf(PyObject* object) { return PyDict_CheckExact(object) ? DictVersion(object) : 0; }

PyObject* CodeOf(PyObject* object) {
  return Py_IS_TYPE(object, &PyFunction_Type) ? PyFunction_GET_CODE(object) : nullptr;
}

bool Watch(const std::string& module, const std::string& name, Kept* kept) {
  PyRef value = Lookup(module, name);
  if (!value) return false;
  if (PyDict_CheckExact(value.get())) FollowDict(value.get());
  kept->watched.push_back({module, name, value.get(), CodeOf(value.get()), VersionOf(value.get())});
  return true;
}

bool Unchanged(const Watched& watched) {
  PyRef now = Lookup(watched.module, watched.name);
  return now.get() == watched.value && CodeOf(now.get()) == watched.code &&
         VersionOf(now.get()) == watched.version;
}

// What functions ask the file system by. The C ones must be C functions still: a library that
// fakes files has put Python functions there.
bool WatchFileFunctions(Kept* kept) {
  for (const auto& [module, name] : {std::pair{"builtins", "open"}, std::pair{"os", "listdir"},
                                     std::pair{"os", "scandir"}, std::pair{"os", "stat"}}) {
    PyRef value = Lookup(module, name);
    if (!value || !Py_IS_TYPE(value.get(), &PyCFunction_Type) || !Watch(module, name, kept)) {
      return false;
    }
  }
  for (const char* name : {"isdir", "isfile", "exists", "join", "dirname"}) {
    if (!Watch("posixpath", name, kept)) return false;
  }
  return Watch(kept->listed.module, "os", kept) && Watch("os", "path", kept);
}

bool IsSet(PyObject* module, const char* function) {
  PyRef value = PyRef::Steal(PyObject_CallMethod(module, function, nullptr));
  return value.get() != Py_None;
}

// A tracer or profiler sees the calls that the function makes. True also if that cannot be told.
bool IsTraced() {
  PyRef sys = BuiltinModule("sys");
  bool traced = !sys || IsSet(sys.get(), "gettrace") || IsSet(sys.get(), "getprofile");
#if PY_VERSION_HEX >= 0x030C0000
  PyRef monitoring =
      traced ? PyRef() : PyRef::Steal(PyObject_GetAttrString(sys.get(), "monitoring"));
  // Tool identifiers are 0 to 5 (PEP 669).
  for (int tool = 0; !traced && tool <= 5; ++tool) {
    PyRef name = monitoring
                     ? PyRef::Steal(PyObject_CallMethod(monitoring.get(), "get_tool", "i", tool))
                     : PyRef();
    traced = name.get() != Py_None;
  }
#endif
  PyErr_Clear();
  return traced;
}

bool MayAnswer(const Kept& kept) {
  return std::all_of(kept.watched.begin(), kept.watched.end(), Unchanged) && !IsTraced();
}

// One argument as part of a memo's key, which tells a str from a path; false: none that we know.
bool AppendArgument(PyObject* argument, std::string* key) {
  std::string text;
  if (argument == Py_None) {
    *key += "None,";
    return true;
  }
  if (PyUnicode_CheckExact(argument)) {
    if (!FileSystemBytes(argument, &text)) return false;
    *key += "str:" + std::to_string(text.size()) + ":" + text + ",";
    return true;
  }
  PyRef path_type = Lookup("pathlib", "PosixPath");
  if (reinterpret_cast<PyObject*>(Py_TYPE(argument)) != path_type.get()) return false;
  PyRef path = PyRef::Steal(PyObject_Str(argument));
  if (!FileSystemBytes(path.get(), &text)) return false;
  *key += "path:" + std::to_string(text.size()) + ":" + text + ",";
  return true;
}

std::optional<std::string> Key(const Kept& kept, PyObject* const* args, size_t count,
                               PyObject* names) {
  std::string key(cache::kMemoPrefix);
  key += kept.listed.module + ":" + kept.listed.name + "(";
  const size_t named = names == nullptr ? 0 : static_cast<size_t>(PyTuple_GET_SIZE(names));
  for (size_t i = 0; i < count + named; ++i) {
    if (i >= count && !AppendArgument(PyTuple_GET_ITEM(names, i - count), &key)) return {};
    if (!AppendArgument(args[i], &key)) return {};
  }
  return key + ")";
}

// The folder that the function will read: its argument, or the folder of the file that this names.
std::string Root(const Kept& kept, PyObject* const* args, size_t count) {
  std::string root;
  if (kept.listed.tree >= count) return "";
  PyRef text = PyRef::Steal(PyObject_Str(args[kept.listed.tree]));
  struct stat st;
  if (!FileSystemBytes(text.get(), &root) || !root.starts_with('/')) return "";
  if (stat(root.c_str(), &st) == 0 && S_ISREG(st.st_mode)) return cache::FolderOf(root);
  return root;
}

// New reference, or null without an exception: the archive has no result that still holds.
PyObject* FromArchive(const std::string& key) {
  std::string_view content;
  if (!g.session->ReadMemo(key, &content)) return nullptr;
  std::optional<cache::Memo> memo = cache::Memo::Parse(content);
  if (!memo || !cache::StillHolds(cache::PosixFileEnv(), memo->files)) return nullptr;
  PyObject* result = PyMarshal_ReadObjectFromString(memo->result.data(),
                                                    static_cast<Py_ssize_t>(memo->result.size()));
  PyErr_Clear();
  for (const cache::Dependency& proof : memo->files) g.session->NoteProved(proof.path);
  return result;
}

// True if the source is one that somebody has read.
bool IsReviewed(const Kept& kept) {
  auto source = cache::PosixFileEnv().ReadFile(kept.module_file.path, kMostSource);
  const uint64_t digest = source ? SourceDigest(kept.listed, *source) : 0;
  const std::vector<uint64_t>& known = kept.listed.sources;
  if (digest != 0 && std::find(known.begin(), known.end(), digest) != known.end()) return true;
  if (g.explain) {
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(digest));
    Explain("results of " + kept.listed.module + ":" + kept.listed.name +
            " are not kept: its source, of digest " + text + ", is not a known one");
  }
  return false;
}

void Keep(const Kept& kept, const std::string& key, std::vector<cache::Dependency> files,
          PyObject* result) {
  PyRef bytes = PyRef::Steal(PyMarshal_WriteObjectToString(result, Py_MARSHAL_VERSION));
  PyErr_Clear();
  if (!bytes || !IsReviewed(kept)) return;
  files.push_back(kept.module_file);
  cache::Memo memo{std::move(files),
                   std::string(PyBytes_AS_STRING(bytes.get()),
                               static_cast<size_t>(PyBytes_GET_SIZE(bytes.get())))};
  g.session->AddMemo(key, RealtimeNs(), memo.Serialize());
}

PyObject* CallAndKeep(const Kept& kept, const std::string& key, PyObject* const* args,
                      size_t flags_and_count, PyObject* names) {
  const size_t count = static_cast<size_t>(PyVectorcall_NARGS(flags_and_count));
  std::string root = g.session->writable() ? Root(kept, args, count) : "";
  std::optional<std::vector<cache::Dependency>> files;
  // Proved before the call, so that what changes meanwhile makes the proof stale.
  if (!root.empty()) {
    files = cache::ProveTree(cache::PosixFileEnv(), root, kept.listed.skip, kMostFiles);
  }
  const int64_t begin = MonotonicNs();
  PyObject* result = kept.original(kept.function, args, flags_and_count, names);
  if (result != nullptr && files && MonotonicNs() - begin >= kWorthKeepingNs) {
    Keep(kept, key, std::move(*files), result);
  }
  return result;
}

const Kept* KeptFor(PyObject* function) {
  for (const auto& kept : *g.kept) {
    if (kept->function == function) return kept.get();
  }
  return nullptr;
}

// The wrapped function's vectorcall slot.
PyObject* Call(PyObject* function, PyObject* const* args, size_t flags_and_count, PyObject* names) {
  const Kept* kept = KeptFor(function);
  const size_t count = static_cast<size_t>(PyVectorcall_NARGS(flags_and_count));
  std::optional<std::string> key;
  if (MayAnswer(*kept)) key = Key(*kept, args, count, names);
  PyErr_Clear();
  if (!key) return kept->original(function, args, flags_and_count, names);
  if (PyObject* result = FromArchive(*key)) return result;
  return CallAndKeep(*kept, *key, args, flags_and_count, names);
}

// The file that the module was loaded from, provided that it is a source.
bool ProveModule(PyObject* module, cache::Dependency* proof) {
  PyRef file = PyRef::Steal(PyObject_GetAttrString(module, "__file__"));
  struct stat st;
  if (!FileSystemBytes(file.get(), &proof->path) || !proof->path.ends_with(".py") ||
      stat(proof->path.c_str(), &st) != 0) {
    return false;
  }
  proof->stamp = cache::SourceStampOf(st);
  return true;
}

// The Python function under functools.lru_cache; empty: there is none.
PyRef CachedFunction(PyObject* module, const std::string& name) {
  PyRef wrapper = PyRef::Steal(PyObject_GetAttrString(module, name.c_str()));
  PyRef wrapper_type = Lookup("functools", "_lru_cache_wrapper");
  if (!wrapper || reinterpret_cast<PyObject*>(Py_TYPE(wrapper.get())) != wrapper_type.get()) {
    return PyRef();
  }
  PyRef function = PyRef::Steal(PyObject_GetAttrString(wrapper.get(), "__wrapped__"));
  if (!function || !Py_IS_TYPE(function.get(), &PyFunction_Type)) return PyRef();
  return function;
}

void SetVectorcall(PyObject* function, vectorcallfunc call) {
#if PY_VERSION_HEX >= 0x030C0000
  PyFunction_SetVectorcall(reinterpret_cast<PyFunctionObject*>(function), call);
#else
  reinterpret_cast<PyFunctionObject*>(function)->vectorcall = call;
#endif
}

void Install(const KnownFunction& listed, PyObject* module) {
  PyRef function = CachedFunction(module, listed.name);
  if (!function || KeptFor(function.get()) != nullptr) return;
  auto kept = std::make_unique<Kept>();
  kept->listed = listed;
  kept->function = function.get();
  kept->original = reinterpret_cast<PyFunctionObject*>(function.get())->vectorcall;
  bool watched = WatchFileFunctions(kept.get()) && Watch(listed.module, listed.name, kept.get());
  for (const std::string& name : listed.uses)
    watched = watched && Watch(listed.module, name, kept.get());
  if (!watched || !ProveModule(module, &kept->module_file)) return;
  SetVectorcall(function.get(), Call);
  g.kept->push_back(std::move(kept));
}

void LookFor(PyObject* name, PyObject* module) {
  if (PySet_Contains(g.listed_modules, name) != 1 || !Py_IS_TYPE(module, &PyModule_Type)) return;
  for (const KnownFunction& listed : *g.listed) {
    if (PyUnicode_CompareWithASCIIString(name, listed.module.c_str()) == 0) Install(listed, module);
  }
}

void OnLoadEnds(PyObject* spec, PyObject* module, intptr_t) {
  if (module == nullptr) return;
  PyRef name = PyRef::Steal(PyObject_GetAttr(spec, g.name));
  if (name && PyUnicode_Check(name.get())) LookFor(name.get(), module);
  PyErr_Clear();
}

}  // namespace

bool InstallPureFunctions(ArchiveSession* session, bool explain) {
  if (_Py_GetConfig()->use_hash_seed != 0) return true;
  g.session = session;
  g.explain = explain;
  g.listed = new std::vector<KnownFunction>(ParseKnownFunctions(kList));
  g.kept = new std::vector<std::unique_ptr<Kept>>();
  PyRef names = PyRef::Steal(PyList_New(0));
  for (const KnownFunction& listed : *g.listed) {
    PyRef name = PyRef::Steal(PyUnicode_FromString(listed.module.c_str()));
    if (!names || !name || PyList_Append(names.get(), name.get()) < 0) return false;
  }
  g.name = PyUnicode_InternFromString("name");
  g.listed_modules = PyFrozenSet_New(names.get());
  return g.name != nullptr && g.listed_modules != nullptr && ListenToLoads({nullptr, OnLoadEnds});
}

}  // namespace pylaunch::engine
