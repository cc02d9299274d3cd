#include "launcher/engine/base/wrap.h"

#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine {
namespace {

// As PyMethodDef wants it. For a C function with the signature that inspect reads from it; a Python
// function's docstring has none. Lives as long as the original.
const char* Doc(PyObject* original) {
  if (PyCFunction_Check(original))
    return reinterpret_cast<PyCFunctionObject*>(original)->m_ml->ml_doc;
  PyObject* doc = PyObject_GetAttrString(original, "__doc__");
  const char* text = doc != nullptr && PyUnicode_Check(doc) ? PyUnicode_AsUTF8(doc) : nullptr;
  PyErr_Clear();
  return text;  // The reference is kept.
}

}  // namespace

bool Diverted::Install(PyObject* module, const char* name, PyCFunction function) {
  PyRef found = PyRef::Steal(PyObject_GetAttrString(module, name));
  PyErr_Clear();
  if (!found || !PyCFunction_CheckExact(found.get())) return false;
  const int flags = PyCFunction_GET_FLAGS(found.get());
  if (flags != METH_NOARGS && flags != METH_O) return false;
  function_ = reinterpret_cast<PyCFunctionObject*>(found.release());
  original_ = function_->m_ml;
  def_ = *original_;
  def_.ml_meth = function;
  function_->m_ml = &def_;  // Where each call looks (Objects/methodobject.c, Python/ceval.c).
  return true;
}

void Diverted::Remove() {
  if (function_ != nullptr) function_->m_ml = original_;
  function_ = nullptr;
}

bool Wrapped::Install(PyObject* module, const char* name, _PyCFunctionFastWithKeywords function) {
  PyRef found = PyRef::Steal(PyObject_GetAttrString(module, name));
  if (!found) return false;
  def.ml_name = name;
  def.ml_meth = reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
  def.ml_flags = METH_FASTCALL | METH_KEYWORDS;
  def.ml_doc = Doc(found.get());
  PyRef home = PyRef::Steal(PyObject_GetAttrString(found.get(), "__module__"));
  PyRef stand_in = PyRef::Steal(PyCFunction_NewEx(&def, module, home.get()));
  if (!home || !stand_in) return false;
  original = found.release();
  if (PyObject_SetAttrString(module, name, stand_in.get()) == 0) return true;
  Py_CLEAR(original);
  return false;
}

}  // namespace pylaunch::engine
