#include "launcher/engine/image_environment.h"

#include <Python.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <cwchar>
#include <string_view>

#include "launcher/engine/py_ref.h"

extern "C" {
const PyConfig* _Py_GetConfig(void);
#if PY_VERSION_HEX >= 0x030D0000
void Py_GetArgcArgv(int* argc, wchar_t*** argv);
#endif
}
extern char** environ;

namespace pylaunch::engine {
namespace {

std::string_view NameOf(std::string_view entry) { return entry.substr(0, entry.find('=')); }

// posix.environ, which is also what os.environ keeps its variables in; borrowed or null.
PyObject* PosixEnviron() {
  PyObject* modules = PyImport_GetModuleDict();
  PyObject* posix = modules == nullptr ? nullptr : PyDict_GetItemString(modules, "posix");
  PyObject* dict = posix == nullptr ? nullptr : PyModule_GetDict(posix);
  PyObject* environ = dict == nullptr ? nullptr : PyDict_GetItemString(dict, "environ");
  return environ != nullptr && PyDict_Check(environ) ? environ : nullptr;
}

// As Modules/posixmodule.c's convertenviron: the first of two settings counts.
void FillPosixEnviron() {
  PyObject* dict = PosixEnviron();
  if (dict == nullptr) return;
  PyDict_Clear(dict);
  for (char** e = environ; *e != nullptr; ++e) {
    const char* equals = std::strchr(*e, '=');
    if (equals == nullptr) continue;
    PyRef name = PyRef::Steal(PyBytes_FromStringAndSize(*e, equals - *e));
    PyRef value = PyRef::Steal(PyBytes_FromString(equals + 1));
    if (name && value) PyDict_SetDefault(dict, name.get(), value.get());
  }
  PyErr_Clear();
}

void Wipe(wchar_t* text) {
  if (text != nullptr) std::wmemset(text, L'\0', std::wcslen(text));
}

void Wipe(const PyWideStringList& list) {
  for (Py_ssize_t i = 1; i < list.length; ++i) Wipe(list.items[i]);
}

// The strings themselves, where nobody else has them.
void WipeList(const char* name) {
  PyObject* list = PySys_GetObject(name);
  for (Py_ssize_t i = 1; list != nullptr && PyList_Check(list) && i < PyList_GET_SIZE(list); ++i) {
    PyObject* text = PyList_GET_ITEM(list, i);
    if (!PyUnicode_Check(text) || Py_REFCNT(text) != 1 || PyUnicode_GET_LENGTH(text) < 2) continue;
    const auto size = static_cast<size_t>(PyUnicode_GET_LENGTH(text) * PyUnicode_KIND(text));
    std::memset(PyUnicode_DATA(text), 0, size);
  }
}

// All that CPython keeps of its command line; a restored process gets its own (resume.cc).
void ScrubArguments() {
  WipeList("argv");
  WipeList("orig_argv");
  const PyConfig* config = _Py_GetConfig();
  Wipe(config->argv);
  Wipe(config->orig_argv);
  Wipe(config->run_command);
  wchar_t** argv = nullptr;
  int argc = 0;
  Py_GetArgcArgv(&argc, &argv);
  for (int i = 1; i < argc; ++i) Wipe(argv[i]);
}

}  // namespace

void ImageEnvironment::Note(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) arguments_.push_back(argv[i]);
  for (char** e = environ; *e != nullptr; ++e) block_.push_back(*e);
}

void ImageEnvironment::Scrub() {
  for (char** e = environ; *e != nullptr; ++e) {
    const std::string_view entry = *e;
    const auto old =
        std::find_if(block_.begin(), block_.end(), [&](const char* kept) { return entry == kept; });
    const size_t equals = entry.find('=');
    if (old != block_.end() || equals == entry.npos) continue;
    set_.emplace_back(entry.substr(0, equals), entry.substr(equals + 1));
  }
  for (char* at : block_) {
    const std::string name(NameOf(at));
    if (getenv(name.c_str()) == nullptr) unset_.push_back(name);
    const size_t size = std::strlen(at) - std::min(name.size() + 1, std::strlen(at));
    variables_.push_back({at, name, size});
  }
  for (const Variable& v : variables_) std::memset(v.at + v.name.size() + 1, 0, v.size);
  PyObject* dict = PosixEnviron();
  PyObject *name, *value;
  for (Py_ssize_t i = 0; dict != nullptr && PyDict_Next(dict, &i, &name, &value);) {
    if (PyBytes_Check(value) && Py_REFCNT(value) == 1 && PyBytes_GET_SIZE(value) > 1) {
      std::memset(PyBytes_AS_STRING(value), 0, static_cast<size_t>(PyBytes_GET_SIZE(value)));
    }
  }
  if (dict != nullptr) PyDict_Clear(dict);
  for (char* argument : arguments_) std::memset(argument, 0, std::strlen(argument));
  ScrubArguments();
}

void ImageEnvironment::Resume(char** envp) {
  environ = envp;
  for (const auto& [name, value] : set_) setenv(name.c_str(), value.c_str(), 1);
  for (const std::string& name : unset_) unsetenv(name.c_str());
  for (const Variable& v : variables_) {
    const char* value = getenv(v.name.c_str());
    if (value != nullptr && std::strlen(value) <= v.size) {
      std::strcpy(v.at + v.name.size() + 1, value);
    }
  }
  FillPosixEnviron();
  tzset();
}

}  // namespace pylaunch::engine
