#include "launcher/engine/environment_setter.h"

#include <Python.h>
#include <unistd.h>

#include <climits>
#include <string_view>
#include <utility>

#include "launcher/engine/own_modules.h"
#include "launcher/engine/preloaded_modules.h"
#include "launcher/engine/py_ref.h"

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

bool StandsInCode(PyObject* code, std::string_view name) {
  PyRef constants = PyRef::Steal(PyObject_GetAttrString(code, "co_consts"));
  return constants && Spells(constants.get(), name);
}

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
    if (StandsInCode(code.get(), name)) return std::nullopt;
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
