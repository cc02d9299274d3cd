#include "launcher/engine/record/random_draws.h"

#include <Python.h>
#include <frameobject.h>  // Where 3.10 declares PyFrame_GetBack.
#include <sys/random.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "cache/file_env.h"
#include "launcher/engine/base/interpreter_object.h"
#include "launcher/engine/base/known_list.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/libc/random_calls.h"

namespace pylaunch::engine {
namespace {

struct Lists {
  KnownList known;    // Who may draw.
  KnownList helpers;  // Whose functions draw for those that call them.
  // By the module that it renews, less those that it is known not to.
  std::map<std::string, KnownList, std::less<>> hooks;
};

// getrandom(2) calls us with nothing of ours. Protected by the GIL.
struct {
  Lists* lists = nullptr;  // While it is recorded.
  // Of whom the lists have not been asked.
  std::set<RandomDraw>* asked_later = new std::set<RandomDraw>();
  std::set<RandomDraw>* draws = new std::set<RandomDraw>();
  std::vector<std::string>* to_read = new std::vector<std::string>();
  size_t when = 0;
} g;

constexpr std::string_view kHookSuffix = ".py", kHookVersions = "# Versions: ";

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

// The list of which a hook's first line is the only one.
KnownList HookFor(const std::string& module, std::string_view first_line) {
  if (!first_line.starts_with(kHookVersions)) first_line = "";  // For none.
  first_line.remove_prefix(first_line.empty() ? 0 : kHookVersions.size());
  return {"hooks/" + module + std::string(kHookSuffix),
          "otherwise " + module + " counts as having drawn random numbers\n" + module + " " +
              std::string(first_line)};
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
  const bool helps = g.lists->helpers.Names(module) &&
                     g.lists->helpers.HasModule(module, TextIn(object, "f_globals", "__file__"));
  return helps ? "" : module;
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
  if (g.lists != nullptr && !IsIdleSeeding(size, flags)) {
    std::string who = WhoDraws();
    const bool is_renewed = g.lists->hooks.count(who) != 0;
    if (!who.empty() && !is_renewed) g.asked_later->insert({std::move(who), g.when});
  }
  PyErr_Restore(type, value, traceback);
  PyGILState_Release(state);
}

PyObject* Loaded(const std::string& module) {
  return PyDict_GetItemString(PyImport_GetModuleDict(), module.c_str());
}

// Empty: nothing tells. So nobody vouches for what is compiled into CPython: SQLite's generator
// (hooks/_sqlite3.py) may be out of reach there.
std::string FileOf(PyObject* module) {
  if (module == nullptr) return "";
  PyRef file = PyRef::Steal(PyObject_GetAttrString(module, "__file__"));
  const char* utf8 = file && PyUnicode_Check(file.get()) ? PyUnicode_AsUTF8(file.get()) : nullptr;
  std::string path = utf8 == nullptr ? "" : utf8;
  PyErr_Clear();
  return path;
}

// Whom the lists vouch for can be asked only now: an extension that draws in its import is not in
// sys.modules yet. A module whose hook was written for other versions counts as having drawn.
void AskLists() {
  std::set<RandomDraw> asked;  // A module's __getattr__ may run, and others draw meanwhile.
  asked.swap(*g.asked_later);
  for (const RandomDraw& draw : asked) {
    if (!g.lists->known.Names(draw.module) ||
        !g.lists->known.HasModule(draw.module, FileOf(Loaded(draw.module)))) {
      g.draws->insert(draw);
    }
  }
  for (auto at = g.lists->hooks.begin(); at != g.lists->hooks.end();) {
    auto& [name, hook] = *at;
    PyObject* module = Loaded(name);
    if (module == nullptr || hook.HasModule(name, FileOf(module))) {
      ++at;
      continue;
    }
    g.draws->insert({name, g.when});
    std::ranges::copy(hook.ToReadAgain(), std::back_inserter(*g.to_read));
    at = g.lists->hooks.erase(at);
  }
}

std::string FirstLine(const std::string& path) {
  constexpr size_t kMaxHook = size_t{1} << 20;
  const auto text = cache::PosixFileEnv().ReadFile(path, kMaxHook);
  return text ? text->substr(0, text->find('\n')) : "";
}

}  // namespace

bool IsHookFor(const std::string& name, std::string_view first_line, PyObject* module) {
  return HookFor(name, first_line).HasModule(name, FileOf(module));
}

void StartRandomDraws(const std::string& folder) {
  auto* lists = new Lists{KnownList::Read(folder + "/known_draws.txt"),
                          KnownList::Read(folder + "/random_helpers.txt"),
                          {}};
  const std::string hooks = folder + "/hooks";
  auto names = cache::PosixFileEnv().ListFolder(hooks);
  for (const std::string& name : names ? *names : std::vector<std::string>()) {
    if (!name.ends_with(kHookSuffix)) continue;
    const std::string module = name.substr(0, name.size() - kHookSuffix.size());
    lists->hooks.emplace(module, HookFor(module, FirstLine(hooks + "/" + name)));
  }
  g.lists = lists;
  ListenToRandomCalls(OnRandomCall);
}

void StopRandomDraws() {
  if (g.lists != nullptr) AskLists();
  ListenToRandomCalls(nullptr);
  // A thread may be waiting for the GIL in OnRandomCall.
  Lists* lists = std::exchange(g.lists, nullptr);
  if (lists == nullptr) return;
  for (const KnownList* list : {&lists->known, &lists->helpers}) {
    std::ranges::copy(list->ToReadAgain(), std::back_inserter(*g.to_read));
  }
  delete lists;
}

std::vector<std::string> DrawListsToReadAgain() { return *g.to_read; }

std::set<RandomDraw> RandomDraws() {
  if (g.lists != nullptr) AskLists();
  ++g.when;
  return *g.draws;
}

}  // namespace pylaunch::engine
