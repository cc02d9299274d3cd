#include "launcher/engine/shield/load_watch.h"

#include <pthread.h>

#include <algorithm>
#include <vector>

#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/shield/stale_module.h"

namespace pylaunch::engine {
namespace {

struct Load {
  PyObject* spec;  // Borrowed: its loader holds it.
  pthread_t thread;
};

// References are owned. Kept until nobody watches and the load has ended.
struct Watched {
  PyObject* spec;
  PyObject* module;
  int watchers = 0;
  bool ended = false;
  bool failed = false;
};

// importlib calls the shield with nothing of ours. Both are short: the depth of nested imports, and
// threads that met in one module. Never destroyed: daemon threads may outlive static destructors.
struct {
  std::vector<Load>& loads = *new std::vector<Load>();
  std::vector<Watched>& watched = *new std::vector<Watched>();
} g;

std::vector<Watched>::iterator Find(PyObject* spec) {
  return std::find_if(g.watched.begin(), g.watched.end(),
                      [&](const Watched& entry) { return entry.spec == spec; });
}

void Drop(std::vector<Watched>::iterator entry) {
  PyRef spec = PyRef::Steal(entry->spec);
  PyRef module = PyRef::Steal(entry->module);
  g.watched.erase(entry);
}

void Settle(PyObject* spec, PyObject* result) {
  auto entry = Find(spec);
  if (entry == g.watched.end()) return;
  entry->ended = true;
  entry->failed = result == nullptr;
  if (result != nullptr && result != entry->module) {
    PyRef name = PyRef::Steal(PyObject_GetAttrString(spec, "name"));
    if (name) ForwardAttributes(entry->module, result, name.get());
    PyErr_Clear();
  }
  entry = Find(spec);
  if (entry != g.watched.end() && entry->watchers == 0) Drop(entry);
}

}  // namespace

void LoadBegins(PyObject* spec) { g.loads.push_back({spec, pthread_self()}); }

void LoadEnds(PyObject* spec, PyObject* result) {
  // From the end: nested loads end in order, but for greenlets.
  for (size_t i = g.loads.size(); i-- > 0;) {
    if (g.loads[i].spec != spec || !pthread_equal(g.loads[i].thread, pthread_self())) continue;
    g.loads.erase(g.loads.begin() + static_cast<std::ptrdiff_t>(i));
    break;
  }
  if (g.watched.empty()) return;
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  Settle(spec, result);
  PyErr_Restore(type, value, traceback);
}

bool IsLoadedElsewhere(PyObject* spec) {
  return std::any_of(g.loads.begin(), g.loads.end(), [&](const Load& load) {
    return load.spec == spec && !pthread_equal(load.thread, pthread_self());
  });
}

unsigned long LoadingThread(PyObject* spec) {
  auto load = std::find_if(g.loads.begin(), g.loads.end(),
                           [&](const Load& entry) { return entry.spec == spec; });
  return load == g.loads.end() ? 0 : static_cast<unsigned long>(load->thread);
}

void Watch(PyObject* spec, PyObject* module) {
  auto entry = Find(spec);
  if (entry == g.watched.end()) {
    Py_INCREF(spec);
    Py_INCREF(module);
    entry = g.watched.insert(g.watched.end(), Watched{spec, module});
  }
  ++entry->watchers;
}

bool Unwatch(PyObject* spec) {
  auto entry = Find(spec);
  if (entry == g.watched.end()) return false;
  bool failed = entry->failed;
  if (--entry->watchers == 0 && entry->ended) Drop(entry);
  return failed;
}

void ForgetOtherThreadsLoads() {
  std::erase_if(g.loads,
                [](const Load& load) { return !pthread_equal(load.thread, pthread_self()); });
  g.watched.clear();  // The references of threads that are gone stay with them.
}

}  // namespace pylaunch::engine
