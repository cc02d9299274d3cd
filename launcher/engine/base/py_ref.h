#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_PY_REF_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_PY_REF_H_

#include <Python.h>

#include <string>
#include <utility>

namespace pylaunch::engine {

// Owns one strong reference, or none. Needs the GIL, as everything here does.
class PyRef {
 public:
  PyRef() = default;
  // Takes over a new reference, as the C API returns it.
  static PyRef Steal(PyObject* object) { return PyRef(object); }
  // Adds a reference to a borrowed one.
  static PyRef Share(PyObject* object) {
    Py_XINCREF(object);
    return PyRef(object);
  }
  PyRef(PyRef&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  PyRef& operator=(PyRef&& other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~PyRef() { Py_XDECREF(object_); }

  PyObject* get() const { return object_; }
  PyObject* release() { return std::exchange(object_, nullptr); }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  explicit PyRef(PyObject* object) : object_(object) {}
  PyObject* object_ = nullptr;
};

// The bytes of a str as the file system knows them (os.fsencode); false, without an exception set,
// for anything that has none.
inline bool FileSystemBytes(PyObject* str, std::string* out) {
  if (str == nullptr || !PyUnicode_Check(str)) return false;
  Py_ssize_t size;
  const char* utf8 = PyUnicode_AsUTF8AndSize(str, &size);
  if (utf8 != nullptr && PyUnicode_IS_ASCII(str)) {
    out->assign(utf8, static_cast<size_t>(size));
    return true;
  }
  PyErr_Clear();
  PyRef bytes = PyRef::Steal(PyUnicode_EncodeFSDefault(str));
  if (!bytes) {
    PyErr_Clear();
    return false;
  }
  out->assign(PyBytes_AS_STRING(bytes.get()), static_cast<size_t>(PyBytes_GET_SIZE(bytes.get())));
  return true;
}

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_PY_REF_H_
