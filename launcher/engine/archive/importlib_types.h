#ifndef PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_IMPORTLIB_TYPES_H_
#define PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_IMPORTLIB_TYPES_H_

#include <Python.h>

#include <string>
#include <vector>

namespace pylaunch::engine {

// The classes and functions of importlib that the finder stands in for, taken once from the frozen
// modules of the main interpreter (Lib/importlib/_bootstrap.py, _bootstrap_external.py). References
// are kept for the life of the process.
struct ImportlibTypes {
  PyObject* module_spec = nullptr;
  PyTypeObject* path_finder = nullptr;
  PyTypeObject* namespace_path = nullptr;  // _NamespacePath, a namespace package's __path__
  PyTypeObject* file_finder = nullptr;
  PyTypeObject* source_loader = nullptr;      // SourceFileLoader
  PyTypeObject* sourceless_loader = nullptr;  // SourcelessFileLoader
  PyTypeObject* extension_loader = nullptr;   // ExtensionFileLoader
  PyObject* cache_from_source = nullptr;
  PyObject* fix_co_filename = nullptr;  // _imp._fix_co_filename
  // Loading a module asks its spec where its .pyc is: `__cached__` is made of that, up to 3.14.
  bool asks_for_cached = true;
  std::vector<std::string> extension_suffixes;
  std::string cache_tag;  // sys.implementation.cache_tag

  // False with an exception set if this importlib is not the one we know.
  bool Load();

  // True while nobody has changed one of the classes (a library may replace
  // `SourceFileLoader.source_to_code`, say): CPython gives a type a new version tag whenever it or
  // a base changes (Objects/typeobject.c, PyType_Modified). After a change our finder steps aside
  // for good.
  bool Unchanged() const;
  // True while sys.implementation.cache_tag is the object it was: `__cached__` depends on it.
  bool CacheTagUnchanged() const;
  // True while CPython takes every hash-based .pyc (PEP 552) as it is, whatever the source says:
  // `--check-hash-based-pycs never`, which programs can set, too. Leaves no exception.
  bool BelievesHashedBytecode() const;

 private:
  PyObject* imp_ = nullptr;
  PyObject* cache_tag_object_ = nullptr;
  static constexpr int kWatched = 5;
  PyTypeObject* watched_[kWatched] = {};
  unsigned int tags_[kWatched] = {};
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_IMPORTLIB_TYPES_H_
