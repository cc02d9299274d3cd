#include "launcher/engine/read_record.h"

#include <Python.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include <cstring>
#include <string_view>
#include <utility>

#include "launcher/engine/py_ref.h"

#pragma weak PyCFunction_Type

namespace pylaunch::engine {
namespace {

enum Asked {
  kOpen,
  kOpenCode,
  kOsOpen,
  kStat,
  kLstat,
  kAccess,
  kReadlink,
  kListdir,
  kScandir,
  kCount
};

struct Tapped {
  const char* module;
  const char* name;
  bool lists;
  PyMethodDef* definition = nullptr;
  PyCFunction original = nullptr;
};
Tapped g_tapped[kCount] = {
    {"_io", "open", false},       {"_io", "open_code", false}, {"posix", "open", false},
    {"posix", "stat", false},     {"posix", "lstat", false},   {"posix", "access", false},
    {"posix", "readlink", false}, {"posix", "listdir", true},  {"posix", "scandir", true}};
ReadRecord* g_record = nullptr;
int g_pauses = 0;

bool IsLeftOut(std::string_view path) {
  return path.ends_with(".pyc") || path.starts_with("/proc/") || path.starts_with("/sys/") ||
         path.starts_with("/dev/");
}

// False, without an exception: no path but a descriptor, say.
bool PathOf(PyObject* argument, std::string* path) {
  PyRef text = PyRef::Steal(PyOS_FSPath(argument));
  if (text && PyBytes_Check(text.get())) {
    *path = PyBytes_AS_STRING(text.get());
    return true;
  }
  const bool found = text && FileSystemBytes(text.get(), path);
  PyErr_Clear();
  return found;
}

PyObject* Keyword(PyObject* const* args, Py_ssize_t count, PyObject* names, const char* name) {
  const Py_ssize_t keywords = names == nullptr ? 0 : PyTuple_GET_SIZE(names);
  for (Py_ssize_t i = 0; i < keywords; ++i) {
    if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, i), name) == 0) {
      return args[count + i];
    }
  }
  return nullptr;
}

// open() for writing alone reads nothing.
bool OnlyWrites(Asked asked, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  PyObject* how =
      count > 1 ? args[1] : Keyword(args, count, names, asked == kOpen ? "mode" : "flags");
  if (how == nullptr) return false;
  if (asked == kOpen && PyUnicode_Check(how)) {
    std::string mode;
    return FileSystemBytes(how, &mode) && mode.find_first_of("wx") != mode.npos;
  }
  if (asked != kOsOpen || !PyLong_Check(how)) return false;
  const long flags = PyLong_AsLong(how);
  PyErr_Clear();
  return (flags & O_ACCMODE) == O_WRONLY || (flags & O_EXCL) != 0;
}

void Note(Asked asked, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  if (g_pauses > 0 || OnlyWrites(asked, args, count, names)) return;
  PyObject* argument =
      count > 0 ? args[0] : Keyword(args, count, names, asked == kOpen ? "file" : "path");
  std::string path = ".";
  if (argument != nullptr && argument != Py_None && !PathOf(argument, &path)) return;
  if (path.empty() || path.find('\0') != path.npos) return;
  if (path[0] != '/') {
    PyObject* folder = Keyword(args, count, names, "dir_fd");
    if (folder != nullptr && folder != Py_None) g_record->unknown = "a path relative to dir_fd";
    char buffer[PATH_MAX];
    if (getcwd(buffer, sizeof buffer) != nullptr) path = std::string(buffer) + "/" + path;
  }
  if (IsLeftOut(path)) return;
  (g_tapped[asked].lists ? g_record->folders : g_record->files).insert(std::move(path));
}

template <Asked asked>
PyObject* Tap(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  Note(asked, args, count, names);
  auto original = reinterpret_cast<_PyCFunctionFastWithKeywords>(
      reinterpret_cast<void (*)()>(g_tapped[asked].original));
  return original(self, args, count, names);
}

template <Asked... asked>
PyCFunction TapFor(Asked which, std::integer_sequence<Asked, asked...>) {
  PyCFunction taps[] = {reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(Tap<asked>))...};
  return taps[which];
}

// The definition behind a function, if it has the signature that Tap has; calls read it each time
// (Objects/methodobject.c, cfunction_vectorcall_FASTCALL_KEYWORDS).
PyMethodDef* DefinitionOf(const Tapped& tapped) {
  PyRef module = PyRef::Steal(PyImport_ImportModule(tapped.module));
  PyRef function =
      module ? PyRef::Steal(PyObject_GetAttrString(module.get(), tapped.name)) : PyRef();
  PyErr_Clear();
  if (!function || !Py_IS_TYPE(function.get(), &PyCFunction_Type)) return nullptr;
  PyMethodDef* definition = reinterpret_cast<PyCFunctionObject*>(function.get())->m_ml;
  return definition->ml_flags == (METH_FASTCALL | METH_KEYWORDS) ? definition : nullptr;
}

}  // namespace

ReadRecordPause::ReadRecordPause() { ++g_pauses; }

ReadRecordPause::~ReadRecordPause() { --g_pauses; }

bool StartReadRecord() {
  for (Tapped& tapped : g_tapped) {
    tapped.definition = DefinitionOf(tapped);
    if (tapped.definition == nullptr) return false;
  }
  g_record = new ReadRecord;
  for (int i = 0; i < kCount; ++i) {
    Tapped& tapped = g_tapped[i];
    tapped.original = tapped.definition->ml_meth;
    tapped.definition->ml_meth =
        TapFor(static_cast<Asked>(i),
               std::integer_sequence<Asked, kOpen, kOpenCode, kOsOpen, kStat, kLstat, kAccess,
                                     kReadlink, kListdir, kScandir>());
  }
  return true;
}

ReadRecord StopReadRecord() {
  if (g_record == nullptr) {
    ReadRecord none;
    none.unknown = "this CPython's functions are not those we know";
    return none;
  }
  for (Tapped& tapped : g_tapped) tapped.definition->ml_meth = tapped.original;
  ReadRecord record = std::move(*g_record);
  delete g_record;
  g_record = nullptr;
  return record;
}

}  // namespace pylaunch::engine
