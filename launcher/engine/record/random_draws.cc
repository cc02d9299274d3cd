#include "launcher/engine/record/random_draws.h"

#include <Python.h>
#include <frameobject.h>  // Where 3.10 declares PyFrame_GetBack.
#include <sys/random.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "cache/file_env.h"
#include "launcher/engine/base/interpreter_object.h"
#include "launcher/engine/base/name_list.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/libc/random_calls.h"

namespace pylaunch::engine {
namespace {

// getrandom(2) calls us with nothing of ours. Protected by the GIL.
struct {
  const NameList* known = nullptr;    // Who may draw.
  const NameList* helpers = nullptr;  // Whose functions draw for those that call them.
  std::set<RandomDraw>* draws = new std::set<RandomDraw>();
  size_t when = 0;
} g;

// The second pair is what frozen modules are called until the first ones are imported.
constexpr std::string_view kImportlib[] = {"importlib._bootstrap", "importlib._bootstrap_external",
                                           "_frozen_importlib", "_frozen_importlib_external"};

bool IsImportlib(std::string_view module) {
  return std::find(std::begin(kImportlib), std::end(kImportlib), module) != std::end(kImportlib);
}

// The text under `key` in the mapping that is the frame's `attribute`; empty: none.
std::string TextIn(PyObject* frame, const char* attribute, const char* key) {
  PyRef mapping = PyRef::Steal(PyObject_GetAttrString(frame, attribute));
  PyRef text = mapping ? PyRef::Steal(PyMapping_GetItemString(mapping.get(), key)) : PyRef();
  const char* utf8 = text && PyUnicode_Check(text.get()) ? PyUnicode_AsUTF8(text.get()) : nullptr;
  std::string found = utf8 == nullptr ? "" : utf8;
  PyErr_Clear();
  return found;
}

std::string FunctionOf(PyFrameObject* frame) {
  PyCodeObject* code = PyFrame_GetCode(frame);
  const char* name = PyUnicode_AsUTF8(code->co_name);
  std::string text = name == nullptr ? "" : name;
  Py_DECREF(code);
  PyErr_Clear();
  return text;
}

// Empty: it draws for its caller.
std::string WhoDraws(PyFrameObject* frame) {
  auto* object = reinterpret_cast<PyObject*>(frame);
  const std::string function = FunctionOf(frame);
  std::string module = TextIn(object, "f_globals", "__name__");
  if (function == "<module>") return module;
  if (IsImportlib(module)) {
    // No frame of the imported module: an extension, whose code has none.
    return function == "_find_and_load_unlocked" ? TextIn(object, "f_locals", "name") : "";
  }
  return g.helpers->count(module) != 0 ? "" : module;
}

PyFrameObject* InnermostFrame() { return PyThreadState_GetFrame(PyThreadState_Get()); }

// Empty: nobody is known to.
std::string WhoDraws() {
  PyRef frame = PyRef::Steal(reinterpret_cast<PyObject*>(InnermostFrame()));
  std::string who;
  while (frame) {
    auto* inner = reinterpret_cast<PyFrameObject*>(frame.get());
    who = WhoDraws(inner);
    if (!who.empty()) break;
    frame = PyRef::Steal(reinterpret_cast<PyObject*>(PyFrame_GetBack(inner)));
  }
  return who;
}

// CPython 3.10 seeds a Mersenne Twister when the object is made, even if it gets another seed or is
// a random.SystemRandom, which has no use for it; what counts is that of random.Random.seed.
// (Modules/_randommodule.c, random_seed_urandom.)
bool IsIdleSeeding(unsigned long size, unsigned flags) {
  constexpr unsigned long kStateSize = 624 * 4;
  if (size != kStateSize || (flags & GRND_NONBLOCK) == 0) return false;
  PyRef frame = PyRef::Steal(reinterpret_cast<PyObject*>(InnermostFrame()));
  return frame && (TextIn(frame.get(), "f_globals", "__name__") != "random" ||
                   FunctionOf(reinterpret_cast<PyFrameObject*>(frame.get())) != "seed");
}

void OnRandomCall(const void* caller, unsigned long size, unsigned flags) {
  // A thread that Python does not know runs none of its code.
  if (!IsInterpreters(caller) || PyGILState_GetThisThreadState() == nullptr) return;
  // CPython lets go of the GIL around the call (Python/bootstrap_hash.c, py_getrandom).
  const PyGILState_STATE state = PyGILState_Ensure();
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  if (g.known != nullptr && !IsIdleSeeding(size, flags)) {
    std::string who = WhoDraws();
    if (!who.empty() && g.known->count(who) == 0) g.draws->insert({std::move(who), g.when});
  }
  PyErr_Restore(type, value, traceback);
  PyGILState_Release(state);
}

}  // namespace

void StartRandomDraws(const std::string& folder) {
  auto* known = new NameList(ReadNameList(folder + "/known_draws.txt"));
  constexpr std::string_view kSuffix = ".py";
  auto hooks = cache::PosixFileEnv().ListFolder(folder + "/hooks");
  for (const std::string& name : hooks ? *hooks : std::vector<std::string>()) {
    if (name.ends_with(kSuffix)) known->insert(name.substr(0, name.size() - kSuffix.size()));
  }
  g.helpers = new NameList(ReadNameList(folder + "/random_helpers.txt"));
  g.known = known;
  ListenToRandomCalls(OnRandomCall);
}

void StopRandomDraws() {
  ListenToRandomCalls(nullptr);
  // A thread may be waiting for the GIL in OnRandomCall.
  delete std::exchange(g.known, nullptr);
  delete std::exchange(g.helpers, nullptr);
}

std::set<RandomDraw> RandomDraws() {
  ++g.when;
  return *g.draws;
}

}  // namespace pylaunch::engine
