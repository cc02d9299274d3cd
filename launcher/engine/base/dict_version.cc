#include "launcher/engine/base/dict_version.h"

#include "launcher/engine/base/py_ref.h"

#if PY_VERSION_HEX >= 0x030E0000
#include <unordered_map>
#endif

namespace pylaunch::engine {

#if PY_VERSION_HEX >= 0x030E0000

namespace {

struct Change {
  uint64_t version;
  bool followed;  // Again.
  bool gone;      // The dict, or another one has its address.
};

// CPython calls OnChange with nothing of ours. Never destroyed: dicts change to the very end.
struct {
  int watcher = -1;      // None yet.
  bool refused = false;  // Others have all that there are.
  uint64_t count = 1;
  std::unordered_map<PyObject*, Change>& changes = *new std::unordered_map<PyObject*, Change>;
} g;

// Once for each that is followed: what changes all the time costs nothing.
int OnChange(PyDict_WatchEvent event, PyObject* dict, PyObject*, PyObject*) {
  const bool gone = event == PyDict_EVENT_DEALLOCATED;
  g.changes[dict] = {++g.count, false, gone};
  if (!gone) PyDict_Unwatch(g.watcher, dict);
  return 0;
}

bool HaveWatcher() {
  if (g.watcher >= 0 || g.refused) return !g.refused;
  g.watcher = PyDict_AddWatcher(OnChange);
  g.refused = g.watcher < 0;
  PyErr_Clear();
  return !g.refused;
}

}  // namespace

void FollowDict(PyObject* dict) {
  if (!HaveWatcher() || PyDict_Watch(g.watcher, dict) < 0) return PyErr_Clear();
  if (auto known = g.changes.find(dict); known != g.changes.end()) {
    known->second.followed = true;
    known->second.gone = false;
  }
}

void FollowChangedDicts() {
  for (auto& [dict, change] : g.changes) {
    if (change.gone || change.followed) continue;
    change.followed = true;
    PyDict_Watch(g.watcher, dict);
  }
}

uint64_t DictVersion(PyObject* dict) {
  if (g.watcher < 0) return ++g.count;  // As if it changed each time.
  auto known = g.changes.find(dict);
  return known == g.changes.end() ? 1 : known->second.version;
}

uint64_t CurrentDictVersion() { return HaveWatcher() ? g.count : 0; }

const void* DictVersionPlace(PyObject*) { return nullptr; }

#else

namespace {

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"  // Since 3.12; no other clock is there.
const uint64_t* VersionPlace(PyObject* dict) {
  return &reinterpret_cast<PyDictObject*>(dict)->ma_version_tag;
}
#pragma GCC diagnostic pop

}  // namespace

void FollowDict(PyObject*) {}

void FollowChangedDicts() {}

uint64_t DictVersion(PyObject* dict) { return *VersionPlace(dict); }

// DICT_NEXT_VERSION.
uint64_t CurrentDictVersion() {
  PyRef dict = PyRef::Steal(PyDict_New());
  if (!dict || PyDict_SetItemString(dict.get(), "a", dict.get()) < 0) return 0;
  const uint64_t first = DictVersion(dict.get());
  const bool changed = PyDict_SetItemString(dict.get(), "a", Py_None) == 0;
  const uint64_t second = DictVersion(dict.get());
  PyDict_Clear(dict.get());
  return changed && second > first ? second : 0;
}

const void* DictVersionPlace(PyObject* dict) { return VersionPlace(dict); }

#endif

}  // namespace pylaunch::engine
