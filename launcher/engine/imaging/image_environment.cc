#include "launcher/engine/imaging/image_environment.h"

#include <Python.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <cwchar>
#include <string_view>

#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/record/argument_reads.h"

extern "C" {
const PyConfig* _Py_GetConfig(void);
#if PY_VERSION_HEX >= 0x030D0000
void Py_GetArgcArgv(int* argc, wchar_t*** argv);
#endif
}
extern char** environ;

namespace pylaunch::engine {
namespace {

using Variables = std::map<std::string, std::string, std::less<>>;

std::string_view NameOf(std::string_view entry) { return entry.substr(0, entry.find('=')); }

// The first of two settings counts, for getenv(3) as for Modules/posixmodule.c's convertenviron.
void Add(Variables* variables, std::string_view entry) {
  const std::string_view name = NameOf(entry);
  if (name.size() < entry.size()) variables->emplace(name, entry.substr(name.size() + 1));
}

// posix.environ, which is also what os.environ keeps its variables in; borrowed or null.
PyObject* PosixEnviron() {
  PyObject* modules = PyImport_GetModuleDict();
  PyObject* posix = modules == nullptr ? nullptr : PyDict_GetItemString(modules, "posix");
  PyObject* dict = posix == nullptr ? nullptr : PyModule_GetDict(posix);
  PyObject* environ = dict == nullptr ? nullptr : PyDict_GetItemString(dict, "environ");
  return environ != nullptr && PyDict_Check(environ) ? environ : nullptr;
}

PyRef Bytes(std::string_view text) {
  return PyRef::Steal(PyBytes_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size())));
}

// As Modules/posixmodule.c's convertenviron.
void FillPosixEnviron() {
  PyObject* dict = PosixEnviron();
  if (dict == nullptr) return;
  PyDict_Clear(dict);
  for (char** e = environ; e != nullptr && *e != nullptr; ++e) {
    const std::string_view entry = *e, name = NameOf(entry);
    if (name.size() == entry.size()) continue;
    PyRef key = Bytes(name), value = Bytes(entry.substr(name.size() + 1));
    if (key && value) PyDict_SetDefault(dict, key.get(), value.get());
  }
  PyErr_Clear();
}

void ChangePosixEnviron(const std::vector<std::pair<std::string, std::string>>& set,
                        const std::vector<std::string>& unset) {
  PyObject* dict = PosixEnviron();
  if (dict == nullptr) return;
  for (const auto& [name, value] : set) {
    PyRef key = Bytes(name), bytes = Bytes(value);
    if (key && bytes) PyDict_SetItem(dict, key.get(), bytes.get());
  }
  for (const std::string& name : unset) {
    if (PyRef key = Bytes(name); key) PyDict_DelItem(dict, key.get());
    PyErr_Clear();
  }
  PyErr_Clear();
}

Variables PosixVariables() {
  Variables variables;
  PyObject* dict = PosixEnviron();
  PyObject *name, *value;
  for (Py_ssize_t i = 0; dict != nullptr && PyDict_Next(dict, &i, &name, &value);) {
    if (!PyBytes_Check(name) || !PyBytes_Check(value)) continue;
    variables.emplace(PyBytes_AS_STRING(name), PyBytes_AS_STRING(value));
  }
  return variables;
}

void Wipe(wchar_t* text) {
  if (text != nullptr) std::wmemset(text, L'\0', std::wcslen(text));
}

void Wipe(const PyWideStringList& list) {
  for (Py_ssize_t i = 1; i < list.length; ++i) Wipe(list.items[i]);
}

// The strings themselves, where nobody else has them.
void WipeList(PyObject* list) {
  for (Py_ssize_t i = 1; list != nullptr && i < PyList_GET_SIZE(list); ++i) {
    PyObject* text = PyList_GET_ITEM(list, i);
    if (!PyUnicode_Check(text) || Py_REFCNT(text) != 1 || PyUnicode_GET_LENGTH(text) < 2) continue;
    const auto size = static_cast<size_t>(PyUnicode_GET_LENGTH(text) * PyUnicode_KIND(text));
    std::memset(PyUnicode_DATA(text), 0, size);
  }
}

// All that CPython keeps of its command line; a restored process gets its own (resume.cc).
void ScrubArguments() {
  WipeList(ListOfThisStart("argv"));
  WipeList(ListOfThisStart("orig_argv"));
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
  for (char** e = environ; e != nullptr && *e != nullptr; ++e) block_.push_back(*e);
}

ImageEnvironment::Changes ImageEnvironment::ChangesSince(const Variables& start,
                                                         const Variables& now) {
  Changes changes;
  for (const auto& [name, value] : now) {
    const auto old = start.find(name);
    if (old == start.end() || old->second != value) changes.set.emplace_back(name, value);
  }
  for (const auto& [name, value] : start) {
    if (now.find(name) == now.end()) changes.unset.push_back(name);
  }
  return changes;
}

void ImageEnvironment::Scrub() {
  Variables start, now, in_posix = PosixVariables();
  for (const char* entry : block_) Add(&start, entry);
  for (char** e = environ; e != nullptr && *e != nullptr; ++e) Add(&now, *e);
  in_c_ = ChangesSince(start, now);
  in_python_ = ChangesSince(start, in_posix);
  for (auto* variables : {&start, &now, &in_posix}) {
    for (auto& [name, value] : *variables) std::fill(value.begin(), value.end(), '\0');
  }
  for (char* at : block_) {
    const std::string name(NameOf(at));
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
  FillPosixEnviron();  // Before C's changes, which os.environ does not show.
  ChangePosixEnviron(in_python_.set, in_python_.unset);
  for (const auto& [name, value] : in_c_.set) setenv(name.c_str(), value.c_str(), 1);
  for (const std::string& name : in_c_.unset) unsetenv(name.c_str());
  for (const Variable& v : variables_) {
    // In any case, so that a trial, which has no variables, needs that page as well.
    (void)*static_cast<const volatile char*>(v.at);
    const char* value = getenv(v.name.c_str());
    if (value != nullptr && std::strlen(value) <= v.size) {
      std::strcpy(v.at + v.name.size() + 1, value);
    }
  }
  tzset();
}

}  // namespace pylaunch::engine
