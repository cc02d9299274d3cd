#include "launcher/engine/base/placeholder.h"

#include <string_view>

#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine {
namespace {

std::string Text(PyObject* object) {
  PyRef str = PyRef::Steal(PyObject_Str(object));
  const char* utf8 = str ? PyUnicode_AsUTF8(str.get()) : nullptr;
  std::string text = utf8 == nullptr ? "" : utf8;
  PyErr_Clear();
  return text;
}

}  // namespace

std::string MissingBackends(PyObject* object) {
  std::string_view metaclass = Py_TYPE(object)->tp_name;
  if (!PyType_Check(object) || metaclass.substr(metaclass.rfind('.') + 1) != "DummyObject")
    return "";
  PyRef backends = PyRef::Steal(PyObject_GetAttrString(object, "_backends"));
  PyRef list = backends ? PyRef::Steal(PySequence_List(backends.get())) : PyRef();
  std::string names;
  for (Py_ssize_t i = 0; list && i < PyList_GET_SIZE(list.get()); ++i) {
    names += (names.empty() ? "" : ", ") + Text(PyList_GET_ITEM(list.get(), i));
  }
  PyErr_Clear();
  return names;
}

}  // namespace pylaunch::engine
