#include "launcher/engine/preload/state_watch.h"

#include <Python.h>

#include <utility>

#include "launcher/engine/preload/doctor.h"

namespace pylaunch::engine {

StateWatch::StateWatch(const std::string& doctor) {
  if (doctor.empty()) return;
  functions_ = RunDoctorFile(doctor + "/state.py");
  before_ = Look();
}

PyRef StateWatch::Look() const {
  PyObject* look = functions_ ? PyDict_GetItemString(functions_.get(), "look") : nullptr;
  PyRef found = look == nullptr
                    ? PyRef()
                    : PyRef::Steal(PyObject_CallFunctionObjArgs(look, Py_False, nullptr));
  PyErr_Clear();
  return found;
}

std::string StateWatch::Changes() {
  PyRef now = Look();
  if (!now || !before_) return "";
  PyObject* changes = PyDict_GetItemString(functions_.get(), "changes");
  PyObject* in_words = PyDict_GetItemString(functions_.get(), "in_words");
  PyRef found =
      PyRef::Steal(PyObject_CallFunctionObjArgs(changes, before_.get(), now.get(), nullptr));
  PyRef words = found ? PyRef::Steal(PyObject_CallOneArg(in_words, found.get())) : PyRef();
  const char* text = words ? PyUnicode_AsUTF8(words.get()) : nullptr;
  std::string said = text == nullptr ? "" : text;
  PyErr_Clear();
  before_ = std::move(now);
  return said;
}

}  // namespace pylaunch::engine
