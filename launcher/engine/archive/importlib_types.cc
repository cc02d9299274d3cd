#include "launcher/engine/archive/importlib_types.h"

#include "launcher/engine/base/own_modules.h"
#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine {
namespace {

PyTypeObject* TypeAttribute(PyObject* module, const char* name) {
  PyObject* type = PyObject_GetAttrString(module, name);
  if (type != nullptr && !PyType_Check(type)) {
    PyErr_Format(PyExc_TypeError, "importlib's %s is no class", name);
    Py_CLEAR(type);
  }
  return reinterpret_cast<PyTypeObject*>(type);
}

bool ReadSuffixes(std::vector<std::string>* out) {
  PyRef imp = BuiltinModule("_imp");
  if (!imp) return false;
  PyRef list = PyRef::Steal(PyObject_CallMethod(imp.get(), "extension_suffixes", nullptr));
  if (!list || !PyList_Check(list.get())) return false;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list.get()); ++i) {
    const char* text = PyUnicode_AsUTF8(PyList_GET_ITEM(list.get(), i));
    if (text == nullptr) return false;
    out->push_back(text);
  }
  return true;
}

// False also where that cannot be told.
bool Mentions(PyObject* module, const char* function, const char* name) {
  PyRef found = PyRef::Steal(PyObject_GetAttrString(module, function));
  PyRef code = found ? PyRef::Steal(PyObject_GetAttrString(found.get(), "__code__")) : PyRef();
  PyRef names = code ? PyRef::Steal(PyObject_GetAttrString(code.get(), "co_names")) : PyRef();
  PyRef text = PyRef::Steal(PyUnicode_FromString(name));
  const bool mentions = names && text && PySequence_Contains(names.get(), text.get()) == 1;
  PyErr_Clear();
  return mentions;
}

// New reference, or null with or without an exception set.
PyObject* CacheTag() {
  PyObject* implementation = PySys_GetObject("implementation");
  return implementation == nullptr ? nullptr : PyObject_GetAttrString(implementation, "cache_tag");
}

}  // namespace

bool ImportlibTypes::Load() {
  PyRef bootstrap = BuiltinModule("_frozen_importlib");
  PyRef external = BuiltinModule("_frozen_importlib_external");
  imp_ = BuiltinModule("_imp").release();
  if (!bootstrap || !external || imp_ == nullptr) return false;
  module_spec = PyObject_GetAttrString(bootstrap.get(), "ModuleSpec");
  asks_for_cached = Mentions(bootstrap.get(), "_init_module_attrs", "cached");
  path_finder = TypeAttribute(external.get(), "PathFinder");
  namespace_path = TypeAttribute(external.get(), "_NamespacePath");
  file_finder = TypeAttribute(external.get(), "FileFinder");
  source_loader = TypeAttribute(external.get(), "SourceFileLoader");
  sourceless_loader = TypeAttribute(external.get(), "SourcelessFileLoader");
  extension_loader = TypeAttribute(external.get(), "ExtensionFileLoader");
  cache_from_source = PyObject_GetAttrString(external.get(), "cache_from_source");
  fix_co_filename = PyObject_GetAttrString(imp_, "_fix_co_filename");
  if (module_spec == nullptr || path_finder == nullptr || namespace_path == nullptr ||
      file_finder == nullptr || source_loader == nullptr || sourceless_loader == nullptr ||
      extension_loader == nullptr || cache_from_source == nullptr || fix_co_filename == nullptr ||
      !ReadSuffixes(&extension_suffixes) || (cache_tag_object_ = CacheTag()) == nullptr) {
    return false;
  }
  const char* tag = PyUnicode_AsUTF8(cache_tag_object_);
  if (tag == nullptr) return false;
  cache_tag = tag;
  PyTypeObject* watched[kWatched] = {path_finder, file_finder, source_loader, sourceless_loader,
                                     extension_loader};
  for (int i = 0; i < kWatched; ++i) {
    watched_[i] = watched[i];
    // Any attribute look-up makes CPython assign the type a version tag.
    PyRef name =
        PyRef::Steal(PyObject_GetAttrString(reinterpret_cast<PyObject*>(watched[i]), "__init__"));
    if (!name) return false;
    tags_[i] = watched[i]->tp_version_tag;
  }
  return true;
}

bool ImportlibTypes::Unchanged() const {
  for (int i = 0; i < kWatched; ++i) {
    if (tags_[i] == 0 || watched_[i]->tp_version_tag != tags_[i]) return false;
  }
  return true;
}

bool ImportlibTypes::CacheTagUnchanged() const {
  PyRef now = PyRef::Steal(CacheTag());
  PyErr_Clear();
  return now.get() == cache_tag_object_;
}

bool ImportlibTypes::BelievesHashedBytecode() const {
  PyRef mode = PyRef::Steal(PyObject_GetAttrString(imp_, "check_hash_based_pycs"));
  PyErr_Clear();
  return mode && PyUnicode_Check(mode.get()) &&
         PyUnicode_CompareWithASCIIString(mode.get(), "never") == 0;
}

}  // namespace pylaunch::engine
