#include "launcher/engine/archive/finder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "launcher/engine/archive/code_source.h"
#include "launcher/engine/archive/importlib_types.h"
#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine {
namespace {

// What importlib.machinery.FileFinder tries, in its order (_get_supported_file_loaders):
// extensions, source, bytecode.
struct Suffix {
  std::string text;
  PyTypeObject* loader;
};

// One finder a process; sub-interpreters have stock's importlib alone. importlib calls its methods
// with nothing of ours.
struct FinderState {
  ArchiveSession* session = nullptr;
  ImportlibTypes types;
  std::vector<Suffix> suffixes;
  PyObject* standard_loaders = nullptr;  // FileFinder._loaders as CPython itself sets it up.
  std::string cached_suffix;             // ".cpython-311.opt-1.pyc"
  PyObject* self = nullptr;              // The finder, as it stands in sys.meta_path.
};
FinderState g;

// Where a module was found by one FileFinder.
struct Found {
  const Suffix* suffix;
  std::string path;    // Of the file.
  std::string folder;  // Of the package; empty for a module.
};

enum class Outcome {
  kFound,
  kNotHere,       // This entry has no such module: try the next.
  kLeaveToStock,  // Not ordinary: PathFinder must decide.
};

bool IsFile(const std::string& path) {
  struct stat st;
  if (g.session->HoldsUnasked(path)) return true;
  return stat(path.c_str(), &st) == 0 && S_ISREG(st.st_mode);
}

// `stem` + each suffix among the names of `names_of`.
std::optional<Found> FindWithSuffix(const Folder& names_of, const std::string& folder,
                                    std::string_view stem) {
  std::string name;
  for (const Suffix& suffix : g.suffixes) {
    name.assign(stem).append(suffix.text);
    if (!names_of.Contains(name)) continue;
    std::string path = folder + "/" + name;
    if (IsFile(path)) return Found{&suffix, std::move(path), ""};
  }
  return std::nullopt;
}

// FileFinder.find_spec for one folder, without making the spec.
Outcome FindInFolder(const std::string& folder, std::string_view tail,
                     std::vector<std::string>* portions, std::optional<Found>* out) {
  const Folder* names = g.session->folders().Get(folder);
  if (names == nullptr) return Outcome::kLeaveToStock;
  bool is_namespace = false;
  std::string package = folder + "/" + std::string(tail);
  if (names->Contains(tail)) {
    struct stat st;
    const bool unasked = g.session->folders().HoldsUnasked(package);
    if (unasked || (stat(package.c_str(), &st) == 0 && S_ISDIR(st.st_mode))) {
      const Folder* inside = g.session->folders().Get(package, unasked ? nullptr : &st);
      if (inside == nullptr) return Outcome::kLeaveToStock;
      *out = FindWithSuffix(*inside, package, "__init__");
      if (*out) {
        (*out)->folder = package;
        return Outcome::kFound;
      }
      is_namespace = true;
    }
  }
  *out = FindWithSuffix(*names, folder, tail);
  if (*out) return Outcome::kFound;
  if (is_namespace) portions->push_back(std::move(package));
  return Outcome::kNotHere;
}

std::optional<std::string> WorkingFolder() {
  char path[4096];
  if (getcwd(path, sizeof path) == nullptr) return std::nullopt;
  return path;
}

// The finder that PathFinder would ask for `entry` (PathFinder._path_importer_cache), making and
// caching it if need be. New reference; null without an exception: leave the module to PathFinder.
PyRef ImporterFor(PyObject* entry) {
  PyRef where = PyRef::Share(entry);
  if (PyUnicode_GET_LENGTH(entry) == 0) {
    const std::optional<std::string> here = WorkingFolder();
    if (!here) return PyRef();
    where = PyRef::Steal(PyUnicode_DecodeFSDefault(here->c_str()));
  }
  PyObject* cache = PySys_GetObject("path_importer_cache");
  if (!where || cache == nullptr || !PyDict_CheckExact(cache)) return PyRef();
  if (PyObject* known = PyDict_GetItemWithError(cache, where.get())) return PyRef::Share(known);
  return PyRef::Steal(PyObject_CallMethod(reinterpret_cast<PyObject*>(g.types.path_finder),
                                          "_path_importer_cache", "O", where.get()));
}

// True if `importer` is a FileFinder as CPython itself makes them; then `folder` is where it looks.
bool IsPlainFileFinder(PyObject* importer, std::string* folder) {
  if (Py_TYPE(importer) != g.types.file_finder) return false;
  PyRef loaders = PyRef::Steal(PyObject_GetAttrString(importer, "_loaders"));
  PyRef path = PyRef::Steal(PyObject_GetAttrString(importer, "path"));
  if (!loaders || !path) return false;
  if (g.standard_loaders == nullptr) return false;
  int same = PyObject_RichCompareBool(loaders.get(), g.standard_loaders, Py_EQ);
  return same == 1 && FileSystemBytes(path.get(), folder) && !folder->empty() &&
         folder->front() == '/';
}

// As importlib's _path_join(folder, name): a folder may end in slashes ("/" itself does).
void StripSlashes(std::string* folder) {
  while (!folder->empty() && folder->back() == '/') folder->pop_back();
}

Outcome FindInEntry(PyObject* entry, std::string_view tail, std::vector<std::string>* portions,
                    std::optional<Found>* out) {
  if (!PyUnicode_CheckExact(entry)) return Outcome::kLeaveToStock;
  PyRef importer = ImporterFor(entry);
  if (!importer) return Outcome::kLeaveToStock;
  if (importer.get() == Py_None) return Outcome::kNotHere;
  std::string folder;
  if (!IsPlainFileFinder(importer.get(), &folder)) return Outcome::kLeaveToStock;
  StripSlashes(&folder);
  return FindInFolder(folder, tail, portions, out);
}

// True if the entry after ours in sys.meta_path is PathFinder, untouched: only then do we answer in
// its stead.
bool StandsBeforePathFinder() {
  PyObject* meta_path = PySys_GetObject("meta_path");
  if (meta_path == nullptr || !PyList_CheckExact(meta_path)) return false;
  for (Py_ssize_t i = 0; i + 1 < PyList_GET_SIZE(meta_path); ++i) {
    if (PyList_GET_ITEM(meta_path, i) == g.self) {
      return PyList_GET_ITEM(meta_path, i + 1) == reinterpret_cast<PyObject*>(g.types.path_finder);
    }
  }
  return false;
}

// importlib's cache_from_source where it needs no Python to run: no pycache_prefix. Null without an
// exception: let the spec compute it when asked.
PyRef CachedPath(const std::string& path) {
  if (PySys_GetObject("pycache_prefix") != Py_None || !g.types.CacheTagUnchanged()) return PyRef();
  size_t slash = path.rfind('/');
  std::string cached =
      path.substr(0, slash) + "/__pycache__" + path.substr(slash, path.size() - slash - 3);
  return PyRef::Steal(PyUnicode_DecodeFSDefault((cached + g.cached_suffix).c_str()));
}

// As spec_from_file_location does for a FileFinder.
PyObject* MakeSpec(PyObject* fullname, const Found& found) {
  PyRef path = PyRef::Steal(PyUnicode_DecodeFSDefaultAndSize(
      found.path.data(), static_cast<Py_ssize_t>(found.path.size())));
  if (!path) return nullptr;
  PyRef loader = PyRef::Steal(PyObject_CallFunctionObjArgs(
      reinterpret_cast<PyObject*>(found.suffix->loader), fullname, path.get(), nullptr));
  if (!loader) return nullptr;
  PyRef arguments = PyRef::Steal(PyTuple_Pack(2, fullname, loader.get()));
  PyRef keywords = PyRef::Steal(Py_BuildValue("{sO}", "origin", path.get()));
  if (!arguments || !keywords) return nullptr;
  PyRef spec = PyRef::Steal(PyObject_Call(g.types.module_spec, arguments.get(), keywords.get()));
  if (!spec || PyObject_SetAttrString(spec.get(), "_set_fileattr", Py_True) < 0) return nullptr;
  if (!found.folder.empty()) {
    PyRef folder = PyRef::Steal(PyUnicode_DecodeFSDefault(found.folder.c_str()));
    PyRef locations = PyRef::Steal(PyList_New(0));
    if (!folder || !locations || PyList_Append(locations.get(), folder.get()) < 0 ||
        PyObject_SetAttrString(spec.get(), "submodule_search_locations", locations.get()) < 0) {
      return nullptr;
    }
  }
  if (g.types.asks_for_cached && found.suffix->loader == g.types.source_loader) {
    PyRef cached = CachedPath(found.path);
    if (PyErr_Occurred() ||
        (cached && PyObject_SetAttrString(spec.get(), "_cached", cached.get()) < 0)) {
      return nullptr;
    }
  }
  return spec.release();
}

// As PathFinder.find_spec does when all it found are portions of a namespace package (PEP 420).
PyObject* MakeNamespaceSpec(PyObject* fullname, const std::vector<std::string>& portions) {
  PyRef paths = PyRef::Steal(PyList_New(0));
  for (const std::string& portion : portions) {
    PyRef path = PyRef::Steal(PyUnicode_DecodeFSDefault(portion.c_str()));
    if (!paths || !path || PyList_Append(paths.get(), path.get()) < 0) return nullptr;
  }
  PyObject* path_finder = reinterpret_cast<PyObject*>(g.types.path_finder);
  PyRef get_spec = PyRef::Steal(PyObject_GetAttrString(path_finder, "_get_spec"));
  PyRef spec =
      PyRef::Steal(PyObject_CallFunctionObjArgs(g.types.module_spec, fullname, Py_None, nullptr));
  if (!get_spec || !spec) return nullptr;
  PyRef locations =
      PyRef::Steal(PyObject_CallFunctionObjArgs(reinterpret_cast<PyObject*>(g.types.namespace_path),
                                                fullname, paths.get(), get_spec.get(), nullptr));
  if (!locations ||
      PyObject_SetAttrString(spec.get(), "submodule_search_locations", locations.get()) < 0) {
    return nullptr;
  }
  return spec.release();
}

// The entries of sys.path or of a package's __path__ as a list; null without an exception: neither
// a list nor a namespace package's path, so PathFinder must see what it is.
PyRef PathEntries(PyObject* path) {
  if (path == Py_None) path = PySys_GetObject("path");
  if (path != nullptr && PyList_CheckExact(path)) return PyRef::Share(path);
  if (path == nullptr || Py_TYPE(path) != g.types.namespace_path) return PyRef();
  return PyRef::Steal(PySequence_List(path));
}

// The last part of a dotted name; false if it is no name that a folder could hold as bytes.
bool Tail(PyObject* fullname, std::string* tail) {
  if (!FileSystemBytes(fullname, tail)) return false;
  size_t dot = tail->rfind('.');
  if (dot != std::string::npos) tail->erase(0, dot + 1);
  return !tail->empty() && tail->find('/') == std::string::npos &&
         tail->find('\0') == std::string::npos;
}

// True if the folder had no module or package called `tail` when last looked at, now or for the
// archive. False also where that is not known.
bool FolderLacked(std::string folder, std::string_view tail) {
  StripSlashes(&folder);
  const Folder* names = g.session->folders().Last(folder);
  return names != nullptr && !names->ContainsStem(tail);
}

// The same for all of `entries`. Spares our own look at them what PathFinder, which is asked next,
// asks of the disk in any case; so that this may be out of date and still do no harm.
bool Lacked(PyObject* entries, std::string_view tail) {
  PyObject* importers = PySys_GetObject("path_importer_cache");
  if (importers == nullptr || !PyDict_CheckExact(importers)) return false;
  bool working_folder = false;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(entries); ++i) {
    PyObject* entry = PyList_GET_ITEM(entries, i);
    std::string folder;
    if (!PyUnicode_CheckExact(entry) || !FileSystemBytes(entry, &folder)) return false;
    if (folder.empty()) {
      working_folder = true;  // Whose name is another system call: last.
    } else if (PyDict_GetItemWithError(importers, entry) != Py_None &&
               !FolderLacked(std::move(folder), tail)) {
      return false;
    }
  }
  if (!working_folder) return true;
  std::optional<std::string> here = WorkingFolder();
  return here && FolderLacked(std::move(*here), tail);
}

// New reference to a spec or None.
PyObject* Find(PyObject* fullname, PyObject* path) {
  if (!StandsBeforePathFinder() || !g.types.Unchanged()) Py_RETURN_NONE;
  PyRef entries = PathEntries(path);
  std::string tail;
  if (!entries || !Tail(fullname, &tail)) {
    PyErr_Clear();  // PathFinder meets the same error and raises it as stock does.
    Py_RETURN_NONE;
  }
  if (Lacked(entries.get(), tail)) Py_RETURN_NONE;
  PyErr_Clear();
  std::vector<std::string> portions;
  std::optional<Found> found;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(entries.get()); ++i) {
    PyRef entry = PyRef::Share(PyList_GET_ITEM(entries.get(), i));
    Outcome outcome = FindInEntry(entry.get(), tail, &portions, &found);
    if (PyErr_Occurred()) {
      PyErr_Clear();  // As above.
      Py_RETURN_NONE;
    }
    if (outcome == Outcome::kLeaveToStock) Py_RETURN_NONE;
    if (outcome == Outcome::kFound) return MakeSpec(fullname, *found);
  }
  if (!portions.empty()) return MakeNamespaceSpec(fullname, portions);
  Py_RETURN_NONE;
}

PyObject* FindSpec(PyObject*, PyObject* args, PyObject* kwargs) {
  static const char* keywords[] = {"fullname", "path", "target", nullptr};
  PyObject* fullname;
  PyObject* path = Py_None;
  PyObject* target = Py_None;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "U|OO:find_spec", const_cast<char**>(keywords),
                                   &fullname, &path, &target)) {
    return nullptr;
  }
  return Find(fullname, path);
}

PyObject* InvalidateCaches(PyObject*, PyObject*) {
  g.session->folders().Invalidate();
  Py_RETURN_NONE;
}

PyMethodDef kMethods[] = {
    {"find_spec", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(FindSpec)),
     METH_VARARGS | METH_KEYWORDS,
     "find_spec($self, fullname, path=None, target=None, /)\n--\n\nThe spec PathFinder would find, "
     "or None to leave it to PathFinder."},
    {"invalidate_caches", InvalidateCaches, METH_NOARGS,
     "invalidate_caches($self, /)\n--\n\nForget all folder listings, as "
     "importlib.invalidate_caches() asks."},
    {nullptr, nullptr, 0, nullptr}};

PyType_Slot kSlots[] = {{Py_tp_methods, kMethods}, {0, nullptr}};

PyType_Spec kSpec = {"pylaunch.ArchiveFinder", sizeof(PyObject), 0,
                     Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, kSlots};

void InitSuffixes() {
  for (const std::string& text : g.types.extension_suffixes)
    g.suffixes.push_back({text, g.types.extension_loader});
  g.suffixes.push_back({".py", g.types.source_loader});
  g.suffixes.push_back({".pyc", g.types.sourceless_loader});
}

// What FileFinder's constructor makes of _get_supported_file_loaders(): a list of (suffix, loader
// class).
PyObject* StandardLoaders() {
  PyRef list = PyRef::Steal(PyList_New(0));
  if (!list) return nullptr;
  for (const Suffix& suffix : g.suffixes) {
    PyRef pair = PyRef::Steal(Py_BuildValue("(sO)", suffix.text.c_str(), suffix.loader));
    if (!pair || PyList_Append(list.get(), pair.get()) < 0) return nullptr;
  }
  return list.release();
}

bool InsertBeforePathFinder(PyObject* finder) {
  PyObject* meta_path = PySys_GetObject("meta_path");
  if (meta_path == nullptr || !PyList_Check(meta_path)) return false;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(meta_path); ++i) {
    if (PyList_GET_ITEM(meta_path, i) == reinterpret_cast<PyObject*>(g.types.path_finder)) {
      return PyList_Insert(meta_path, i, finder) == 0;
    }
  }
  PyErr_SetString(PyExc_RuntimeError, "PathFinder is not in sys.meta_path");
  return false;
}

}  // namespace

bool InstallFinder(ArchiveSession* session, int optimize) {
  g.session = session;
  if (!g.types.Load()) return false;
  g.cached_suffix =
      "." + g.types.cache_tag + (optimize > 0 ? ".opt-" + std::to_string(optimize) : "") + ".pyc";
  InitSuffixes();
  g.standard_loaders = StandardLoaders();
  PyObject* type = PyType_FromSpec(&kSpec);
  if (g.standard_loaders == nullptr || type == nullptr || !InitCodeSource(session, &g.types))
    return false;
  PyTypeObject* finder_type = reinterpret_cast<PyTypeObject*>(type);
  g.self = finder_type->tp_alloc(finder_type, 0);
  return g.self != nullptr && InsertBeforePathFinder(g.self);
}

}  // namespace pylaunch::engine
