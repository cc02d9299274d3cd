#include "launcher/engine/shield/module_locks.h"

#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine {
namespace {

// A dict of importlib._bootstrap, which may put another one in its place (_setup, a test).
PyRef Table(const char* name) {
  static PyObject* const bootstrap = PyImport_AddModule("_frozen_importlib");  // Borrowed.
  PyRef table =
      bootstrap == nullptr ? PyRef() : PyRef::Steal(PyObject_GetAttrString(bootstrap, name));
  // A _WeakValueDictionary (`_blocking_on` from 3.12 on).
  if (table && !PyDict_Check(table.get()))
    table = PyRef::Steal(PyObject_GetAttrString(table.get(), "data"));
  return table && PyDict_Check(table.get()) ? std::move(table) : PyRef();
}

// What stands in `table` for `key`, or what a weak reference there refers to.
PyRef Entry(const char* table_name, PyObject* key) {
  PyRef table = Table(table_name);
  PyRef found = table ? PyRef::Share(PyDict_GetItemWithError(table.get(), key)) : PyRef();
  return found && PyWeakref_Check(found.get()) ? PyRef::Steal(PyObject_CallNoArgs(found.get()))
                                               : std::move(found);
}

unsigned long Owner(PyObject* lock) {
  PyRef owner = PyRef::Steal(PyObject_GetAttrString(lock, "owner"));
  return owner && PyLong_Check(owner.get()) ? PyLong_AsUnsignedLong(owner.get()) : 0;
}

unsigned long OwnerOfEntry(const char* table_name, PyObject* key) {
  PyRef lock = Entry(table_name, key);
  // From 3.12 on a list: the locks of imports that interrupted each other, the last one awaited.
  if (lock && PyList_Check(lock.get())) {
    const Py_ssize_t count = PyList_GET_SIZE(lock.get());
    lock = count == 0 ? PyRef() : PyRef::Share(PyList_GET_ITEM(lock.get(), count - 1));
  }
  return lock && lock.get() != Py_None ? Owner(lock.get()) : 0;
}

template <typename Function>
unsigned long KeepingError(Function function) {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  unsigned long result = function();
  PyErr_Restore(type, value, traceback);
  return result;
}

}  // namespace

unsigned long ModuleLockOwner(PyObject* name) {
  return KeepingError([&] { return OwnerOfEntry("_module_locks", name); });
}

unsigned long AwaitedInImportlib(unsigned long thread) {
  return KeepingError([&]() -> unsigned long {
    PyRef key = PyRef::Steal(PyLong_FromUnsignedLong(thread));
    return key ? OwnerOfEntry("_blocking_on", key.get()) : 0;
  });
}

}  // namespace pylaunch::engine
