#include "launcher/engine/journal/requester.h"

#include <frameobject.h>  // Part of Python.h since 3.11.
#include <opcode.h>

#include <string_view>

#include "launcher/engine/base/installed.h"
#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine {
namespace {

// Set once a start; hooks of importlib's ask with nothing of ours. Never destroyed: daemon threads
// may outlive static destructors.
std::string& OwnFolder() {
  static std::string& folder = *new std::string();  // Ends in '/', or empty: none.
  return folder;
}

std::string Text(PyObject* str) {
  std::string text;
  FileSystemBytes(str, &text);
  return text;
}

PyRef Attribute(PyObject* object, const char* name) {
  PyRef value = PyRef::Steal(PyObject_GetAttrString(object, name));
  PyErr_Clear();
  return value;
}

// One frame, as far as it matters here.
struct Frame {
  PyRef frame;
  PyRef code;
  PyRef globals;
  std::string file;
  std::string function;

  explicit Frame(PyRef of) : frame(std::move(of)) {
    auto* raw = reinterpret_cast<PyFrameObject*>(frame.get());
    code = PyRef::Steal(reinterpret_cast<PyObject*>(PyFrame_GetCode(raw)));
    globals = Attribute(frame.get(), "f_globals");
    file = Text(Attribute(code.get(), "co_filename").get());
    function = Text(Attribute(code.get(), "co_name").get());
  }
  int Line() const { return PyFrame_GetLineNumber(reinterpret_cast<PyFrameObject*>(frame.get())); }
  std::string Module() const {
    PyObject* name = globals && PyDict_Check(globals.get())
                         ? PyDict_GetItemString(globals.get(), "__name__")
                         : nullptr;
    return Text(name);
  }
};

// `importlib` itself and `runpy`, which starts the program for -m, folders and zip files.
bool IsMachinery(const Frame& frame) {
  if (frame.file.starts_with("<frozen importlib") || frame.file == "<frozen zipimport>")
    return true;
  std::string module = frame.Module();
  return module == "importlib" || module.starts_with("importlib.");
}

bool IsOwn(const Frame& frame) {
  std::string module = frame.Module();
  return module == "__main__" || module == "runpy" || IsOwnFile(frame.file);
}

// The value of the frame's parameter `index`, if the code has that many.
PyRef Parameter(const Frame& frame, Py_ssize_t index) {
  PyRef names = Attribute(frame.code.get(), "co_varnames");
  PyRef count = Attribute(frame.code.get(), "co_argcount");
  if (!names || !count || !PyTuple_Check(names.get()) || PyLong_AsLong(count.get()) <= index)
    return PyRef();
  PyObject* name = PyTuple_GET_ITEM(names.get(), index);
#if PY_VERSION_HEX >= 0x030C0000
  PyRef value =
      PyRef::Steal(PyFrame_GetVar(reinterpret_cast<PyFrameObject*>(frame.frame.get()), name));
#else
  PyRef locals = Attribute(frame.frame.get(), "f_locals");
  PyRef value = locals && PyDict_Check(locals.get())
                    ? PyRef::Share(PyDict_GetItemWithError(locals.get(), name))
                    : PyRef();
#endif
  PyErr_Clear();
  return value;
}

std::string NameOf(PyObject* module) {
  return Text(PyDict_GetItemString(PyModule_GetDict(module), "__name__"));
}

// True if the frame runs a module's `__getattr__`; then which symbol of which module it looks up.
bool IsLazySymbol(const Frame& frame, std::string* module, std::string* symbol) {
  const bool getattribute = frame.function == "__getattribute__";
  if (!getattribute && frame.function != "__getattr__") return false;
  PyRef first = Parameter(frame, 0);
  if (!first) return false;
  if (PyModule_Check(first.get())) {  // Of its class: a subclass of ModuleType.
    PyRef second = Parameter(frame, 1);
    *module = NameOf(first.get());
    *symbol = Text(second.get());
  } else if (PyUnicode_Check(first.get()) && !getattribute) {  // PEP 562.
    *module = frame.Module();
    *symbol = Text(first.get());
  } else {
    return false;
  }
  return !module->empty() && !symbol->empty() && !symbol->starts_with("__");
}

PyRef Back(const PyRef& frame) {
  return PyRef::Steal(
      reinterpret_cast<PyObject*>(PyFrame_GetBack(reinterpret_cast<PyFrameObject*>(frame.get()))));
}

}  // namespace

void SetOwnFolder(const std::string& folder) {
  OwnFolder() = folder.empty() || folder.ends_with('/') ? folder : folder + "/";
}

bool IsOwnFile(const std::string& path) {
  const std::string& folder = OwnFolder();
  return !folder.empty() && path.starts_with(folder) &&
         !IsInSitePackages(path, folder.size() - 1) &&
         path.find("/lib/python3", folder.size() - 1) == std::string::npos;
}

#if PY_VERSION_HEX >= 0x030F0000
bool IsLookedAt() {
  PyRef frame =
      PyRef::Steal(reinterpret_cast<PyObject*>(PyThreadState_GetFrame(PyThreadState_Get())));
  if (!frame) return false;
  auto* raw = reinterpret_cast<PyFrameObject*>(frame.get());
  PyRef code = PyRef::Steal(reinterpret_cast<PyObject*>(PyFrame_GetCode(raw)));
  PyRef bytes = Attribute(code.get(), "co_code");  // As compiled, not as specialised.
  const Py_ssize_t at = PyFrame_GetLasti(raw);
  if (!bytes || !PyBytes_Check(bytes.get()) || at < 0 || at >= PyBytes_GET_SIZE(bytes.get())) {
    return false;
  }
  switch (static_cast<unsigned char>(PyBytes_AS_STRING(bytes.get())[at])) {
    case LOAD_ATTR:
    case LOAD_FROM_DICT_OR_GLOBALS:
    case LOAD_GLOBAL:
    case LOAD_NAME:
      return true;
    default:
      return false;
  }
}
#else
bool IsLookedAt() { return false; }
#endif

Requester FindRequester() {
  Requester requester;
  PyRef at = PyRef::Steal(reinterpret_cast<PyObject*>(PyThreadState_GetFrame(PyThreadState_Get())));
  bool known = false;
  while (at) {
    Frame frame(PyRef::Share(at.get()));
    at = Back(at);
    std::string module, symbol;
    if (IsLazySymbol(frame, &module, &symbol)) {
      requester.symbol_module = std::move(module);
      requester.symbol = std::move(symbol);
      known = false;  // Who asked for the symbol is further out.
      continue;
    }
    if (IsMachinery(frame)) continue;
    const bool own = IsOwn(frame);
    if (!known) {
      requester.file = frame.file;
      requester.function = frame.function;
      requester.line = frame.Line();
      requester.own = own;
      known = true;
    }
    if (own) break;
  }
  PyErr_Clear();
  return requester;
}

}  // namespace pylaunch::engine
