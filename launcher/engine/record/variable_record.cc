#include "launcher/engine/record/variable_record.h"

#include <Python.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <string>
#include <utility>

#include "image/secrets.h"
#include "launcher/contract/handoff.h"
#include "launcher/engine/base/load_hook.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/environment/environ_prefixes.h"
#include "launcher/engine/environment/environment_reads.h"
#include "launcher/engine/environment/os_environ_hook.h"
#include "launcher/engine/libc/child_environments.h"
#include "launcher/engine/libc/environment_calls.h"
#include "launcher/engine/libc/unseen_children.h"
#include "launcher/engine/record/file_record.h"
#include "launcher/engine/record/host_name_reads.h"
#include "launcher/engine/record/signal_reads.h"

namespace pylaunch::engine {
namespace {

constexpr size_t kNoEntry = SIZE_MAX;
// The C library's functions, os.environ and load_hook tell us with nothing of ours.
struct {
  std::atomic<size_t> entry = kNoEntry;

  // Null: no image is to be made of what is read now. Names only: an image holds no values. Never
  // freed, as any thread may be reading.
  std::atomic<EnvironmentReads*> image_reads = nullptr;
  // Likewise: secrets that have come into the process's memory and cannot be looked for there.
  EnvironmentReads* short_secrets = nullptr;
  // Under the GIL.
  std::set<std::string>* prefixes = new std::set<std::string>();
  std::string* why_all = new std::string();
  bool site_seen = false;
} g;

void NoteShortSecret(const char* name, const char* value) {
  if (value != nullptr && image::IsShortSecret(name, value)) g.short_secrets->Add(name, nullptr, 0);
}

void OnRead(const char* name, const char* value) {
  if (const size_t entry = g.entry; entry != kNoEntry) PreloadReads().Add(name, value, entry);
  EnvironmentReads* reads = g.image_reads;
  if (reads == nullptr || NoteReadInChild()) return;
  reads->Add(name, nullptr, 0);
  NoteShortSecret(name, value);
}

// By who goes through the environment; who is known to use a prefix only throws others away.
void OnFetched(const char* name, const char* value) {
  if (g.image_reads == nullptr || value == nullptr || !image::IsShortSecret(name, value)) return;
  if (FindEnvironReader().prefix.empty()) NoteShortSecret(name, value);
}

void OnEnumerated() {
  if (g.entry != kNoEntry) PreloadReads().MarkEnumerated();
  if (g.image_reads == nullptr || NoteReadInChild()) return;
  const EnvironReader reader = FindEnvironReader();
  if (!reader.prefix.empty()) {
    g.prefixes->insert(reader.prefix);
  } else if (g.why_all->empty()) {
    *g.why_all = reader.place + " goes through the environment";
  }
}

void OnChange(const EnvironmentChange& change) {
  EnvironmentReads* reads = g.image_reads;
  if (reads == nullptr || NoteReadInChild()) return;
  reads->Add(change.name, nullptr, 0);
  NoteShortSecret(change.name, change.value);
}

// Lib/os.py makes `environ` and then, last, `environb`.
bool HasEnviron() {
  PyObject* os = PyDict_GetItemString(PyImport_GetModuleDict(), "os");
  return os != nullptr && PyModule_Check(os) &&
         PyDict_GetItemString(PyModule_GetDict(os), "environb") != nullptr;
}

bool IsSite(PyObject* spec) {
  PyRef name = PyRef::Steal(PyObject_GetAttrString(spec, "name"));
  const bool is = name && PyUnicode_Check(name.get()) &&
                  PyUnicode_CompareWithASCIIString(name.get(), "site") == 0;
  PyErr_Clear();
  return is;
}

// The first load that can run anybody's code, and CPython has its handlers by then.
intptr_t OnLoadBegins(PyObject* spec) {
  if (!g.site_seen && g.image_reads != nullptr && IsSite(spec)) {
    g.site_seen = true;
    StartSignalReads();
  }
  return 0;
}

// To see the moment when `os` is there: what has loaded it (`site`) reads variables next. It is in
// sys.modules before it is whole, while it imports others.
void OnLoadEnds(PyObject*, PyObject* module, intptr_t) {
  if (module == nullptr) return;
  if (g.image_reads != nullptr && !IsEnvironHooked() && HasEnviron()) {
    HookEnviron({OnRead, OnEnumerated, OnFetched});
    StartHostNameReads();
  }
  FollowPlatform();
}

}  // namespace

ReadsRecording::ReadsRecording(size_t entry) {
  g.entry = entry;
  if (!IsEnvironHooked()) HookEnviron({OnRead, OnEnumerated, OnFetched});
  if (g.image_reads == nullptr) ListenToReads(OnRead);
}

ReadsRecording::~ReadsRecording() {
  g.entry = kNoEntry;
  if (g.image_reads != nullptr) return;
  ListenToReads(nullptr);
  UnhookEnviron();
}

void StartImageReads() {
  g.short_secrets = new EnvironmentReads;
  g.image_reads = new EnvironmentReads;
  WatchChildren();
  NoteSignalsAtStart();
  struct sigaction at_start;
  if (sigaction(SIGCHLD, nullptr, &at_start) == 0) NoteSignalAction(SIGCHLD, &at_start);
  ListenToReads(OnRead);
  ListenToChanges(OnChange);
}

void FollowImportOfOs() {
  if (!ListenToLoads({OnLoadBegins, OnLoadEnds})) *g.why_all = "importlib is not the one we know";
  PyErr_Clear();
}

image::VariableReads StopImageReads() {
  const EnvironmentReads& read_now = *g.image_reads.exchange(nullptr);
  ListenToReads(nullptr);
  ListenToChanges(nullptr);
  image::VariableReads reads;
  reads.all = *g.why_all;
  const ChildrenSeen children = StopWatchingChildren();
  const bool unseen = MayHaveHadUnseenChildren();
  if (children.unproved) reads.all = "a child process ran";
  if (unseen) reads.all = "SIGCHLD was ignored: a child process may have run";
  // wait(2) tells nothing of children of who ignores it.
  if (children.any || unseen) NoteQuestionOfStart(IgnoredFact(SIGCHLD).c_str());
  if (WasEnvironmentCleared()) reads.all = "the environment was cleared";
  if (!IsEnvironHooked() && HasEnviron()) reads.all = "nobody saw the import of os";
  reads.prefixes.assign(g.prefixes->begin(), g.prefixes->end());
  if (IsEnvironHooked()) UnhookEnviron();
  for (EnvironmentRead& read : read_now.All()) reads.names.push_back(std::move(read.name));
  return reads;
}

std::string ShortSecretRead(const std::vector<std::string>& allowed) {
  for (const EnvironmentRead& read : g.short_secrets->All()) {
    if (std::find(allowed.begin(), allowed.end(), read.name) != allowed.end()) continue;
    return "preloading has read or set " + read.name +
           ", a secret by its name whose value is too short to be looked for in memory; set it in "
           "the program, or let images hold it: --image-allow " +
           read.name;
  }
  return "";
}

}  // namespace pylaunch::engine
