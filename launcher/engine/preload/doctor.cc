#include "launcher/engine/preload/doctor.h"

#include <Python.h>

#include <fstream>
#include <iterator>

namespace pylaunch::engine {

PyRef RunDoctorFile(const std::string& file) {
  std::ifstream in(file);
  std::string source{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (!in || source.empty()) return PyRef();
  PyRef globals = PyRef::Steal(PyDict_New());
  PyRef name = PyRef::Steal(PyUnicode_FromString("__pylaunch_doctor__"));
  if (!globals || !name ||
      PyDict_SetItemString(globals.get(), "__builtins__", PyEval_GetBuiltins()) < 0 ||
      PyDict_SetItemString(globals.get(), "__name__", name.get()) < 0) {
    return PyRef();
  }
  PyRef code = PyRef::Steal(Py_CompileString(source.c_str(), file.c_str(), Py_file_input));
  if (!code) return PyRef();
  PyRef done = PyRef::Steal(PyEval_EvalCode(code.get(), globals.get(), globals.get()));
  return done ? std::move(globals) : PyRef();
}

void AskDoctor(const std::string& folder, const PreloadEntry& entry, Failure* failure) {
  if (folder.empty() || !failure->exception) return;
  PyRef globals = RunDoctorFile(folder + "/__main__.py");
  PyObject* explain = globals ? PyDict_GetItemString(globals.get(), "explain_failure") : nullptr;
  PyRef where = PyRef::Steal(PyUnicode_DecodeFSDefault(folder.c_str()));
  PyRef words;
  if (explain != nullptr && where) {
    words = PyRef::Steal(PyObject_CallFunction(explain, "OsO", where.get(), entry.module.c_str(),
                                               failure->exception.get()));
  }
  const char *cause = nullptr, *hint = nullptr;
  if (words && PyTuple_Check(words.get()) && PyArg_ParseTuple(words.get(), "ss", &cause, &hint)) {
    if (failure->cause != cause)
      failure->cause = std::string(cause) + "; Python says: " + failure->cause;
    failure->hint = std::string(hint) + ", or mark the entry 'optional'";
  }
  PyErr_Clear();
}

}  // namespace pylaunch::engine
