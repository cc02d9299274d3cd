#include "launcher/engine/preload/half_imported.h"

#include <string>
#include <vector>

namespace pylaunch::engine {
namespace {

bool Has(PyObject* modules, const std::string& name) {
  PyRef key = PyRef::Steal(PyUnicode_FromString(name.c_str()));
  bool has = key && PyDict_GetItemWithError(modules, key.get()) != nullptr;
  PyErr_Clear();
  return has;
}

// "a.b.c" lacks its package if "a" or "a.b" is not there.
bool LacksPackage(PyObject* modules, const std::string& name) {
  for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
    if (!Has(modules, name.substr(0, dot))) return true;
  }
  return false;
}

bool IsExtension(PyObject* module) {
  PyRef file = PyRef::Steal(PyObject_GetAttrString(module, "__file__"));
  std::string path;
  bool extension = file && FileSystemBytes(file.get(), &path) && path.ends_with(".so");
  PyErr_Clear();
  return extension;
}

}  // namespace

HalfImported::HalfImported() {
  PyObject* modules = PyImport_GetModuleDict();
  if (modules != nullptr && PyDict_Check(modules)) before_ = PyRef::Steal(PyDict_Copy(modules));
  PyErr_Clear();
}

bool HalfImported::Remove() const {
  PyObject* modules = PyImport_GetModuleDict();
  if (!before_ || modules == nullptr || !PyDict_Check(modules)) return false;
  std::vector<std::string> orphans;
  PyObject *key, *module;
  Py_ssize_t position = 0;
  PyRef now = PyRef::Steal(PyDict_Copy(modules));  // Looking at a module may run code of its own.
  while (now && PyDict_Next(now.get(), &position, &key, &module)) {
    const char* name = PyUnicode_Check(key) ? PyUnicode_AsUTF8(key) : nullptr;
    PyErr_Clear();
    if (name == nullptr || Has(before_.get(), name) || !LacksPackage(modules, name)) continue;
    if (IsExtension(module)) return false;
    orphans.push_back(name);
  }
  for (const std::string& name : orphans) PyDict_DelItemString(modules, name.c_str());
  PyErr_Clear();
  return true;
}

}  // namespace pylaunch::engine
