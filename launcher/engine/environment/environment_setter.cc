#include "launcher/engine/environment/environment_setter.h"

#include <Python.h>
#include <unistd.h>

#include <climits>
#include <string_view>
#include <utility>

#include "launcher/engine/base/own_modules.h"
#include "launcher/engine/base/preloaded_modules.h"
#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine {
namespace {

std::string Text(PyObject* object) {
  std::string text;
  FileSystemBytes(object, &text);
  return text;
}

// os.environ's own methods stand in these two; _collections_abc gives itself the second name.
bool IsEnviron(PyObject* frame) {
  PyRef globals = PyRef::Steal(PyObject_GetAttrString(frame, "f_globals"));
  PyObject* name = globals && PyDict_Check(globals.get())
                       ? PyDict_GetItemString(globals.get(), "__name__")
                       : nullptr;
  const std::string module = Text(name);
  return module == "os" || module == "collections.abc";
}

// As the user would write it: without the working folder in front.
std::string Shortened(std::string file) {
  char folder[PATH_MAX];
  if (getcwd(folder, sizeof folder) == nullptr) return file;
  const std::string prefix = std::string(folder) + "/";
  return file.starts_with(prefix) ? file.substr(prefix.size()) : file;
}

// True if `constant` is the name or, as in `prefix + "NAME"`, a part of it that says enough.
bool Spells(PyObject* constant, std::string_view name) {
  constexpr size_t kEnough = 4;
  if (PyTuple_Check(constant)) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(constant); ++i) {
      if (Spells(PyTuple_GET_ITEM(constant, i), name)) return true;
    }
    return false;
  }
  const std::string text = Text(constant);
  if (text.size() < kEnough) return !text.empty() && text == name;
  return name.starts_with(text) || name.ends_with(text);
}

// True if a value of the library's is the name, or a container of names with it. No code of the
// value's runs.
bool Holds(PyObject* value, std::string_view name) {
  if (PyUnicode_Check(value)) return Text(value) == name;
  const bool items = PyTuple_Check(value) || PyList_Check(value);
  for (Py_ssize_t i = 0; items && i < PySequence_Fast_GET_SIZE(value); ++i) {
    PyObject* item = PySequence_Fast_GET_ITEM(value, i);
    if (PyUnicode_Check(item) && Text(item) == name) return true;
  }
  PyRef text = PyRef::Steal(
      PyUnicode_DecodeFSDefaultAndSize(name.data(), static_cast<Py_ssize_t>(name.size())));
  if (!text) return false;
  if (PyDict_CheckExact(value)) return PyDict_Contains(value, text.get()) == 1;
  return PyAnySet_CheckExact(value) && PySet_Contains(value, text.get()) == 1;
}

// One frame of a library's code.
struct LibraryCode {
  PyRef constants;  // Tuples or empty.
  PyRef names;      // Of globals and attributes.
  PyRef globals;
  PyRef self;  // Its first argument, or empty.

  LibraryCode(PyObject* frame, PyObject* code)
      : constants(PyRef::Steal(PyObject_GetAttrString(code, "co_consts"))),
        names(PyRef::Steal(PyObject_GetAttrString(code, "co_names"))),
        globals(PyRef::Steal(PyObject_GetAttrString(frame, "f_globals"))) {
    PyRef arguments = PyRef::Steal(PyObject_GetAttrString(code, "co_varnames"));
    PyRef locals = PyRef::Steal(PyObject_GetAttrString(frame, "f_locals"));
    const bool any = reinterpret_cast<PyCodeObject*>(code)->co_argcount > 0;
    if (any && arguments && locals) {
      self = PyRef::Steal(PyObject_GetItem(locals.get(), PyTuple_GET_ITEM(arguments.get(), 0)));
    }
    PyErr_Clear();
  }

  bool SpellsOut(std::string_view name) const {
    if (!constants || !names || !globals || !PyDict_Check(globals.get())) return false;
    if (Spells(constants.get(), name) || HasGlobal(name)) return true;
    if (self &&
        HasAttribute(PyType_Check(self.get()) ? self.get()
                                              : reinterpret_cast<PyObject*>(Py_TYPE(self.get())),
                     name)) {
      return true;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names.get()); ++i) {
      PyObject* value = PyDict_GetItem(globals.get(), PyTuple_GET_ITEM(names.get(), i));
      if (value != nullptr && (Holds(value, name) || HasAttribute(value, name))) return true;
    }
    return false;
  }

 private:
  // A text of its module: also what stands for the name in a default argument.
  bool HasGlobal(std::string_view name) const {
    PyObject *key, *value;
    for (Py_ssize_t i = 0; PyDict_Next(globals.get(), &i, &key, &value);) {
      if (PyUnicode_Check(value) && Text(value) == name) return true;
    }
    return false;
  }

  // `module.NAME`, `Class.NAME`, where the code has such an attribute's name.
  bool HasAttribute(PyObject* owner, std::string_view name) const {
    if (PyModule_Check(owner)) return HasItem(PyModule_GetDict(owner), name);
    if (!PyType_Check(owner)) return false;
    PyObject* bases = reinterpret_cast<PyTypeObject*>(owner)->tp_mro;
    for (Py_ssize_t i = 0; bases != nullptr && i < PyTuple_GET_SIZE(bases); ++i) {
      PyRef key = PyRef::Steal(PyUnicode_FromString("__dict__"));
      PyRef dict = PyRef::Steal(PyType_Type.tp_getattro(PyTuple_GET_ITEM(bases, i), key.get()));
      if (dict && HasItem(dict.get(), name)) return true;
    }
    return false;
  }

  bool HasItem(PyObject* mapping, std::string_view name) const {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names.get()); ++i) {
      PyRef value = PyRef::Steal(PyObject_GetItem(mapping, PyTuple_GET_ITEM(names.get(), i)));
      PyErr_Clear();
      if (value && Holds(value.get(), name)) return true;
    }
    return false;
  }
};

PyRef Outer(PyObject* frame) {
  PyRef outer = PyRef::Steal(PyObject_GetAttrString(frame, "f_back"));
  return outer.get() != Py_None ? std::move(outer) : PyRef();
}

std::optional<EnvironmentSetter> Search(const std::string& name) {
  EnvironmentSetter setter;
  PyRef frame = PyRef::Share(reinterpret_cast<PyObject*>(PyEval_GetFrame()));
  for (; frame; frame = Outer(frame.get())) {
    auto* at = reinterpret_cast<PyFrameObject*>(frame.get());
    PyRef code = PyRef::Steal(reinterpret_cast<PyObject*>(PyFrame_GetCode(at)));
    auto* fields = reinterpret_cast<PyCodeObject*>(code.get());
    if (IsEnviron(frame.get())) {
      const std::string method = Text(fields->co_name);
      if (method == "clear" || method == "popitem") return std::nullopt;
      setter.if_unset |= method == "setdefault";
      continue;
    }
    setter.file = Text(fields->co_filename);
    if (!IsInstalledFile(StandardLibrary(), setter.file)) {
      setter.file = Shortened(std::move(setter.file));
      setter.line = PyFrame_GetLineNumber(at);
      return setter;
    }
    const bool is_body = Text(fields->co_name) == "<module>";  // Which nobody has told anything.
    if (is_body || LibraryCode(frame.get(), code.get()).SpellsOut(name)) return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

std::optional<EnvironmentSetter> FindEnvironmentSetter(const std::string& name) {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  std::optional<EnvironmentSetter> setter = Search(name);
  PyErr_Restore(type, value, traceback);
  return setter;
}

}  // namespace pylaunch::engine
