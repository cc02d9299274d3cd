#include "launcher/engine/archive/builder.h"

#include <Python.h>

#include <fstream>
#include <iterator>
#include <string_view>

#include "cache/codec.h"
#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine {
namespace {

// Nobody waits for this as for a program's start; at 19 compressing would take longer than
// compiling.
constexpr int kLevel = 9;

// The builder's script calls the functions below with nothing of ours.
ArchiveSession* g_session = nullptr;

PyObject* IsCurrent(PyObject*, PyObject* args) {
  PyObject* path_object;
  long long mtime_ns, ctime_ns;
  unsigned long long size, inode;
  std::string path;
  if (!PyArg_ParseTuple(args, "ULKLK", &path_object, &mtime_ns, &size, &ctime_ns, &inode) ||
      !FileSystemBytes(path_object, &path)) {
    return nullptr;
  }
  cache::SourceStamp stamp = {mtime_ns, size, ctime_ns, inode};
  return PyBool_FromLong(g_session->Has(path, stamp));
}

PyObject* Compress(PyObject*, PyObject* code) {
  char* data;
  Py_ssize_t size;
  if (PyBytes_AsStringAndSize(code, &data, &size) < 0) return nullptr;
  auto frame = cache::Compress({data, static_cast<size_t>(size)}, kLevel);
  if (!frame) return PyErr_NoMemory();
  return PyBytes_FromStringAndSize(frame->data(), static_cast<Py_ssize_t>(frame->size()));
}

PyObject* Add(PyObject*, PyObject* args) {
  PyObject* path_object;
  long long mtime_ns, ctime_ns, read_at_ns;
  unsigned long long size, inode;
  const char* frame;
  Py_ssize_t frame_size;
  unsigned int raw_size;
  cache::ModuleRecord module;
  if (!PyArg_ParseTuple(args, "ULKLKLy#I", &path_object, &mtime_ns, &size, &ctime_ns, &inode,
                        &read_at_ns, &frame, &frame_size, &raw_size) ||
      !FileSystemBytes(path_object, &module.path)) {
    return nullptr;
  }
  module.stamp = {mtime_ns, size, ctime_ns, inode};
  module.read_at_ns = read_at_ns;
  module.frame.assign(frame, static_cast<size_t>(frame_size));
  module.raw_size = raw_size;
  module.compiled = true;
  g_session->Add(std::move(module));
  Py_RETURN_NONE;
}

PyObject* ListFolder(PyObject*, PyObject* path_object) {
  std::string path;
  if (!PyUnicode_Check(path_object) || !FileSystemBytes(path_object, &path)) return nullptr;
  g_session->folders().Get(path);
  Py_RETURN_NONE;
}

PyObject* Seal(PyObject*, PyObject*) { return PyBool_FromLong(g_session->SealAndWait()); }

PyMethodDef kMethods[] = {{"is_current", IsCurrent, METH_VARARGS, nullptr},
                          {"compress", Compress, METH_O, nullptr},
                          {"add", Add, METH_VARARGS, nullptr},
                          {"list_folder", ListFolder, METH_O, nullptr},
                          {"seal", Seal, METH_NOARGS, nullptr}};

PyRef MakeArchiveDict(bool json, bool preloaded) {
  PyRef archive = PyRef::Steal(Py_BuildValue(
      "{sNsOsO}", "path", PyUnicode_DecodeFSDefault(g_session->path().c_str()), "json",
      json ? Py_True : Py_False, "preloaded", preloaded ? Py_True : Py_False));
  for (PyMethodDef& method : kMethods) {
    PyRef function = PyRef::Steal(PyCFunction_New(&method, nullptr));
    if (!archive || !function ||
        PyDict_SetItemString(archive.get(), method.ml_name, function.get()) < 0) {
      return PyRef();
    }
  }
  return archive;
}

// In __main__, as a program: what it hands to other processes is found there.
PyRef Run(const std::string& script, bool json, bool preloaded) {
  std::ifstream in(script);
  std::string source{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  PyObject* main = PyImport_AddModule("__main__");
  PyRef archive = MakeArchiveDict(json, preloaded);
  if (main == nullptr || !archive) return PyRef();
  PyObject* globals = PyModule_GetDict(main);
  if (PyDict_SetItemString(globals, "archive", archive.get()) < 0) return PyRef();
  PyRef code = PyRef::Steal(Py_CompileString(source.c_str(), script.c_str(), Py_file_input));
  if (!code) return PyRef();
  return PyRef::Steal(PyEval_EvalCode(code.get(), globals, globals));
}

// The status of the SystemExit that ended the script.
int ExitStatus() {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  PyRef code = PyRef::Steal(PyObject_GetAttrString(value, "code"));
  int status = code && PyLong_Check(code.get()) ? static_cast<int>(PyLong_AsLong(code.get())) : 1;
  Py_XDECREF(type);
  Py_XDECREF(value);
  Py_XDECREF(traceback);
  return status;
}

}  // namespace

int Build(const std::string& script, ArchiveSession* session, bool json, bool preloaded) {
  g_session = session;
  PyRef done = Run(script, json, preloaded);
  if (done) return 0;
  if (PyErr_ExceptionMatches(PyExc_SystemExit)) return ExitStatus();
  // 130, as shells report it.
  if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) return 130;
  PyErr_Print();
  return 1;
}

}  // namespace pylaunch::engine
