#include "launcher/engine/base/preloaded_modules.h"

#include <algorithm>

#include "launcher/engine/base/dict_version.h"
#include "launcher/engine/base/installed.h"
#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine {
namespace {

// A module without a file or a spec is its package's: extensions make such (torch._C._onnx).
bool IsInstalled(const std::string& library, PyObject* modules, std::string name, PyObject* names) {
  const std::string file = FileOf(names);
  if (!file.empty()) return IsInstalledFile(library, file);
  PyObject* spec = PyDict_GetItemString(names, "__spec__");
  if (spec != nullptr && spec != Py_None) return true;  // Built-in, frozen, or a namespace.
  const size_t dot = name.rfind('.');
  if (dot == name.npos) return false;
  name.resize(dot);
  PyObject* package = PyDict_GetItemString(modules, name.c_str());
  return package != nullptr && PyModule_Check(package) &&
         IsInstalled(library, modules, name, PyModule_GetDict(package));
}

std::string Text(PyObject* name) {
  const char* text = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : "";
  if (text == nullptr) PyErr_Clear();
  return text == nullptr ? "" : text;
}

template <typename Module>
bool IsBefore(const Module& left, const Module& right) {
  return left.module < right.module;
}

// A value that nobody notices the end of, whoever has put it there.
bool IsPlain(PyObject* value) {
  return value == Py_None || PyBool_Check(value) || PyLong_CheckExact(value) ||
         PyFloat_CheckExact(value) || PyUnicode_CheckExact(value);
}

}  // namespace

std::string FileOf(PyObject* names) {
  std::string file;
  FileSystemBytes(PyDict_GetItemString(names, "__file__"), &file);
  return file;
}

bool IsInstalledFile(const std::string& library, const std::string& file) {
  return (!library.empty() && file.starts_with(library)) || file.starts_with("<frozen ") ||
         IsInSitePackages(file);
}

bool PreloadedModules::Note(PyObject* modules, const std::string& library) {
  const bool first = noted_.empty();
  const size_t known = modules_.size();
  PyObject *name, *module;
  first ? FollowDict(modules) : FollowChangedDicts();
  while (PyDict_Next(modules, &end_, &name, &module)) {
    noted_.emplace_back(name, module);
    if (!PyModule_Check(module)) continue;
    PyObject* names = PyModule_GetDict(module);
    FollowDict(names);
    modules_.push_back({module, names, IsInstalled(library, modules, Text(name), names)});
  }
  // Sorting writes to all of it, which a restored process would have to copy from its image.
  if (modules_.size() > known) {
    std::stable_sort(modules_.begin(), modules_.end(), IsBefore<Module>);
  }
  if (first) {
    noted_version_ = DictVersion(modules);
  } else if (!IsAsNoted(modules)) {
    noted_version_ = 0;  // Changed, and not by additions alone, perhaps.
  }
  last_version_ = CurrentDictVersion();
  return last_version_ != 0;
}

void PreloadedModules::NoteEntries() {
  for (Module& module : modules_) NoteEntriesOf(&module);
}

void PreloadedModules::NoteEntriesOf(Module* module) {
  Py_ssize_t position = 0;
  PyObject *name, *value;
  module->first_entry = entries_.size();
  while (PyDict_Next(module->names, &position, &name, &value)) entries_.emplace_back(name, value);
  module->entries = entries_.size() - module->first_entry;
}

void PreloadedModules::NoteEntriesAgain(PyObject* module) {
  Module* known = const_cast<Module*>(Find(module));
  if (known != nullptr && known->entries != 0) NoteEntriesOf(known);
}

// Atexit functions leave such changes ("shutting down").
bool PreloadedModules::HasOnlyPlainChanges(const Module& module) const {
  const Entry* before = entries_.data() + module.first_entry;
  const Entry* end = before + module.entries;
  Py_ssize_t position = 0;
  PyObject *name, *value;
  while (PyDict_Next(module.names, &position, &name, &value)) {
    const bool known = before != end;
    if (known && before->first != name) return false;
    if ((!known || before->second != value) && !IsPlain(value)) return false;
    if (known) ++before;
  }
  return module.entries != 0 && before == end;
}

// The first of those with this address: a module may stand in sys.modules twice.
const PreloadedModules::Module* PreloadedModules::Find(PyObject* module) const {
  const auto at = std::lower_bound(modules_.begin(), modules_.end(), Module{module, nullptr, false},
                                   IsBefore<Module>);
  return at != modules_.end() && at->module == module ? &*at : nullptr;
}

bool PreloadedModules::IsIntact(PyObject* module, const image::WrittenPages& written) const {
  const Module* known = Find(module);
  if (known == nullptr || !known->installed) return false;
  PyObject* names = known->names;
  const void* place = DictVersionPlace(names);
  if (place != nullptr && written.IsUntouched(module) && written.IsUntouched(place)) return true;
  return PyModule_Check(module) && PyModule_GetDict(module) == names &&
         (DictVersion(names) <= last_version_ || HasOnlyPlainChanges(*known));
}

bool PreloadedModules::IsAsNoted(PyObject* modules) const {
  return DictVersion(modules) == noted_version_;
}

bool PreloadedModules::Visit(PyObject* modules, bool as_noted, const Visitor& visit) const {
  Py_ssize_t position = as_noted ? end_ : 0;
  if (as_noted) {
    for (const auto& [name, module] : noted_) {
      if (!visit(name, module)) return false;
    }
  }
  PyObject *name, *module;
  while (PyDict_Next(modules, &position, &name, &module)) {
    if (!visit(name, module)) return false;
  }
  return true;
}

void PreloadedModules::VisitAddresses(const std::function<void(const void*)>& visit) const {
  for (const Module& module : modules_) {
    visit(module.module);
    if (const void* place = DictVersionPlace(module.names)) visit(place);
  }
}

}  // namespace pylaunch::engine
