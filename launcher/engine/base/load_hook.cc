#include "launcher/engine/base/load_hook.h"

#include "launcher/engine/base/own_modules.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/base/wrap.h"

namespace pylaunch::engine {
namespace {

constexpr size_t kMost = 4;

// importlib calls LoadUnlocked with nothing of ours.
constinit struct {
  Wrapped load_unlocked;
  LoadListener listeners[kMost] = {};
  size_t count = 0;
} g;

PyObject* LoadUnlocked(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  if (count != 1 || !InMainInterpreter()) return g.load_unlocked.Call(args, count, keywords);
  PyObject* spec = args[0];
  const size_t listeners = g.count;
  intptr_t begun[kMost] = {};
  for (size_t i = listeners; i-- > 0;) {
    if (g.listeners[i].begins != nullptr) begun[i] = g.listeners[i].begins(spec);
  }
  PyObject* module = g.load_unlocked.Call(args, count, keywords);
  for (size_t i = 0; i < listeners; ++i) g.listeners[i].ends(spec, module, begun[i]);
  return module;
}

bool Install() {
  PyRef bootstrap = BuiltinModule("_frozen_importlib");
  return bootstrap && g.load_unlocked.Install(bootstrap.get(), "_load_unlocked", LoadUnlocked);
}

}  // namespace

bool ListenToLoads(const LoadListener& listener) {
  if (g.load_unlocked.original == nullptr && !Install()) return false;
  if (g.count == kMost) {
    PyErr_SetString(PyExc_SystemError, "too many listen to loads");
    return false;
  }
  g.listeners[g.count++] = listener;
  return true;
}

}  // namespace pylaunch::engine
