#include "launcher/engine/journal/journal.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <unordered_set>

#include "launcher/engine/base/clock.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/base/report.h"

namespace pylaunch::engine {

bool g_journal_on = false;

namespace {

constexpr uint32_t kMostLines = 100;
constexpr size_t kMostEvents = 200'000;

struct State : Journal {
  // What the program has set since the latest import that was a request, on the main thread.
  std::map<std::string, std::string> set;
  std::unordered_set<std::string> known_missing;
};

// The hooks of importlib and setenv(3) tell us with nothing of ours. Never destroyed: daemon
// threads may outlive static destructors.
State& g = *new State();
thread_local int t_thread = -1;  // In g.threads; -1: not yet.

class ExceptionKept {
 public:
  ExceptionKept() { PyErr_Fetch(&type_, &value_, &traceback_); }
  ~ExceptionKept() { PyErr_Restore(type_, value_, traceback_); }
  ExceptionKept(const ExceptionKept&) = delete;
  ExceptionKept& operator=(const ExceptionKept&) = delete;

  // True if the exception says that just `name` is not there.
  bool MeansNotFound(const std::string& name) {
    if (type_ == nullptr || !PyErr_GivenExceptionMatches(type_, PyExc_ModuleNotFoundError))
      return false;
    PyErr_NormalizeException(&type_, &value_, &traceback_);
    PyRef missing = PyRef::Steal(PyObject_GetAttrString(value_, "name"));
    PyErr_Clear();
    std::string text;
    return FileSystemBytes(missing.get(), &text) && text == name;
  }

 private:
  PyObject *type_, *value_, *traceback_;
};

// The resident set. The file is opened anew each time: a descriptor of ours would shift those that
// the program gets.
int64_t ResidentBytes() {
  if (!g.wants.costs) return 0;
  int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  char text[128];
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return 0;
  text[n] = '\0';
  char* end;
  std::strtoll(text, &end, 10);  // The first number is the size, the second what is resident.
  static const long page = sysconf(_SC_PAGESIZE);
  return std::strtoll(end, nullptr, 10) * page;
}

std::string Attribute(PyObject* object, const char* name) {
  std::string text;
  PyRef value = PyRef::Steal(PyObject_GetAttrString(object, name));
  FileSystemBytes(value.get(), &text);
  PyErr_Clear();
  return text;
}

// threading.Thread.name of this thread, as far as `threading` knows it.
std::string ThreadName(pid_t tid) {
  PyRef name = PyRef::Steal(PyUnicode_FromString("threading"));
  PyRef threading = name ? PyRef::Steal(PyImport_GetModule(name.get())) : PyRef();
  PyRef active =
      threading ? PyRef::Steal(PyObject_GetAttrString(threading.get(), "_active")) : PyRef();
  PyRef ident = PyRef::Steal(PyLong_FromUnsignedLong(PyThread_get_thread_ident()));
  std::string text;
  if (active && PyDict_Check(active.get()) && ident) {
    if (PyObject* thread = PyDict_GetItemWithError(active.get(), ident.get()))
      text = Attribute(thread, "_name");
  }
  PyErr_Clear();
  return text.empty() ? "thread " + std::to_string(tid) : text;
}

JournalThread& ThisThread() {
  if (t_thread < 0) {
    t_thread = static_cast<int>(g.threads.size());
    pid_t tid = static_cast<pid_t>(syscall(SYS_gettid));
    bool main = tid == getpid();
    g.threads.push_back({main ? "MainThread" : ThreadName(tid), tid, main, {}, 0});
  }
  return g.threads[static_cast<size_t>(t_thread)];
}

bool IsPackageOf(const std::string& package, const std::string& name) {
  return name.size() > package.size() && name[package.size()] == '.' && name.starts_with(package);
}

// True if what begins now on this thread is asked for by the program, or by code that it called:
// all that is under way are the bodies of its own modules, and the packages that these imports
// need first.
bool IsRequest(const JournalThread& thread, const std::string& name) {
  const std::string* inner = &name;
  for (size_t i = thread.stack.size(); i-- > 0;) {
    const JournalEvent& event = g.events[static_cast<size_t>(thread.stack[i])];
    if (event.body ? !event.own : !IsPackageOf(*inner, event.name)) return false;
    inner = &event.name;
  }
  return g.program_ns != 0;
}

int Push(JournalEvent event) {
  JournalThread& thread = ThisThread();
  event.thread = t_thread;
  event.parent = thread.stack.empty() ? -1 : thread.stack.back();
  event.begin_rss = ResidentBytes();
  event.begin_ns = MonotonicNs();
  const int index = static_cast<int>(g.events.size());
  g.events.push_back(std::move(event));
  thread.stack.push_back(index);
  return index;
}

void Pop(JournalEvent* event, int index) {
  event->end_ns = MonotonicNs();
  event->end_rss = ResidentBytes();
  // From the end: nested imports end in order, but for greenlets.
  auto& stack = g.threads[static_cast<size_t>(event->thread)].stack;
  for (size_t i = stack.size(); i-- > 0;) {
    if (stack[i] != index) continue;
    stack.erase(stack.begin() + static_cast<std::ptrdiff_t>(i));
    break;
  }
}

// Those that the program has set since the last request.
void KeepVariables() {
  for (auto& [name, value] : g.set) g.variables.push_back({name, value});
  g.set.clear();
}

// A line of --explain about the outermost import of a thread.
void TellThreadImport(const JournalEvent& event, const JournalThread& thread) {
  const std::string where =
      "'" + event.name + "' " +
      (event.outcome == JournalEvent::Outcome::kLoaded ? "imported" : "failed to import") +
      " on thread '" + thread.name + "'";
  if (g.thread_imports <= kMostLines) {
    Explain("threads: " + where + " (" + std::to_string(thread.loaded) +
            (thread.loaded == 1 ? " module, " : " modules, ") +
            std::to_string((event.end_ns - event.begin_ns) / 1'000'000) + " ms)");
  } else if (g.thread_imports == kMostLines + 1) {
    Explain("threads: further imports are only counted");
  }
}

// --explain alone needs no event once it has ended.
void Forget() {
  const bool idle = std::all_of(g.threads.begin(), g.threads.end(),
                                [](const JournalThread& t) { return t.stack.empty(); });
  if (idle) g.events.clear();
}

// After an event of an import, or of a body alone, has ended.
void Ended(int index) {
  const JournalEvent& event = g.events[static_cast<size_t>(index)];
  JournalThread& thread = g.threads[static_cast<size_t>(event.thread)];
  if (event.body && event.outcome == JournalEvent::Outcome::kLoaded) ++thread.loaded;
  if (!thread.stack.empty()) return;
  if (!thread.main && thread.loaded > 0) {
    ++g.thread_imports;
    g.thread_modules += thread.loaded;
    if (g.wants.threads) TellThreadImport(event, thread);
  }
  thread.loaded = 0;
  if (!g.wants.requests && !g.wants.costs) Forget();
}

// A program may try in every call of a function whether some module is there: once is enough.
void ForgetIfKnownMissing(int index) {
  if (g.events.empty()) return;
  const JournalEvent& event = g.events.back();
  if (event.outcome != JournalEvent::Outcome::kNotFound || event.parent >= 0) return;
  const bool last = static_cast<size_t>(index) + 1 == g.events.size();
  if (!g.known_missing.insert(event.name).second && last) g.events.pop_back();
}

void Finish(int index, PyObject* module) {
  if (index < 0 || !g_journal_on) return;
  ExceptionKept exception;
  const std::string name = g.events[static_cast<size_t>(index)].name;
  const bool missing = module == nullptr && exception.MeansNotFound(name);
  JournalEvent& event = g.events[static_cast<size_t>(index)];
  event.outcome = module != nullptr        ? JournalEvent::Outcome::kLoaded
                  : missing && !event.body ? JournalEvent::Outcome::kNotFound
                                           : JournalEvent::Outcome::kFailed;
  Pop(&event, index);
  Ended(index);
  ForgetIfKnownMissing(index);
}

// What the spec says of where the module comes from.
void Describe(PyObject* spec, JournalEvent* event) {
  event->origin = Attribute(spec, "origin");
  PyRef loader = PyRef::Steal(PyObject_GetAttrString(spec, "loader"));
  if (loader && loader.get() != Py_None) {
    PyTypeObject* type = PyType_Check(loader.get()) ? reinterpret_cast<PyTypeObject*>(loader.get())
                                                    : Py_TYPE(loader.get());
    event->loader = type->tp_name;
  }
  PyErr_Clear();
  event->own = IsOwnFile(event->origin);
}

// Explain alone has no use for what the main thread imports.
bool IsWanted(const JournalThread& thread) {
  return g.wants.requests || g.wants.costs || !thread.main;
}

bool IsFull() {
  g.full = g.events.size() >= kMostEvents;
  return g.full;
}

}  // namespace

Journal* StartJournal(const JournalWants& wants, int64_t started_ns) {
  g.wants = wants;
  g.started_ns = started_ns;
  g.events.clear();
  g.full = false;
  g.thread_imports = g.thread_modules = 0;
  g_journal_on = true;
  return &g;
}

void StopJournal() { g_journal_on = false; }

int ImportBegins(PyObject* name) {
  std::string text;
  if (IsFull() || !IsWanted(ThisThread()) || !FileSystemBytes(name, &text)) return -1;
  ExceptionKept exception;
  JournalEvent event;
  event.name = std::move(text);
  const JournalThread& thread = ThisThread();
  event.request = IsRequest(thread, event.name);
  event.lazy = IsLookedAt();
  if (event.request && g.wants.requests) {
    event.requester = FindRequester();
    if (thread.main) KeepVariables();
  }
  return Push(std::move(event));
}

void ImportEnds(int event, PyObject* module) { Finish(event, module); }

int BodyBegins(PyObject* spec) {
  if (IsFull() || !IsWanted(ThisThread())) return -1;
  ExceptionKept exception;
  std::string name = Attribute(spec, "name");
  const JournalThread& thread = ThisThread();
  int index = thread.stack.empty() ? -1 : thread.stack.back();
  if (index < 0 || g.events[static_cast<size_t>(index)].body ||
      g.events[static_cast<size_t>(index)].name != name) {
    JournalEvent event;
    event.name = std::move(name);
    event.of_load = true;
    index = Push(std::move(event));
  }
  JournalEvent described;  // Reading a spec may run Python, which may import.
  Describe(spec, &described);
  JournalEvent& event = g.events[static_cast<size_t>(index)];
  event.body = true;
  event.own = described.own;
  event.origin = std::move(described.origin);
  event.loader = std::move(described.loader);
  return index;
}

void BodyEnds(int event, PyObject* module) {
  if (event >= 0 && g.events[static_cast<size_t>(event)].of_load) Finish(event, module);
}

void NoteArchiveAnswer(ArchiveAnswer answer, uint64_t code_bytes) {
  if (!g_journal_on || t_thread < 0 || g.threads[static_cast<size_t>(t_thread)].stack.empty())
    return;
  const auto& stack = g.threads[static_cast<size_t>(t_thread)].stack;
  JournalEvent& event = g.events[static_cast<size_t>(stack.back())];
  if (!event.body) return;
  event.archive = answer;
  event.code_bytes = code_bytes;
}

int EntryBegins(const PreloadEntry& entry) {
  JournalEvent event;
  event.kind = JournalEvent::Kind::kEntry;
  event.name = entry.kind == PreloadEntry::Kind::kImport ? "import " + entry.module : entry.text;
  event.where = entry.location.ToString();
  return Push(std::move(event));
}

void EntryEnds(int event, bool loaded) {
  if (event < 0) return;
  JournalEvent& entry = g.events[static_cast<size_t>(event)];
  entry.outcome = loaded ? JournalEvent::Outcome::kLoaded : JournalEvent::Outcome::kFailed;
  Pop(&entry, event);
}

void NotePreload() {
  if (g_journal_on) g.preload_ns = MonotonicNs();
}

void NoteProgram() {
  if (!g_journal_on) return;
  g.program_ns = MonotonicNs();
}

bool WantsVariables() { return g_journal_on && g.wants.requests; }

void NoteVariable(const std::string& name, const std::optional<std::string>& value) {
  if (value) {
    g.set[name] = *value;
  } else {
    g.set.erase(name);
  }
}

}  // namespace pylaunch::engine
