#include "launcher/engine/journal/journal_report.h"

#include <Python.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "launcher/engine/base/child_process.h"
#include "launcher/engine/base/clock.h"
#include "launcher/engine/base/own_modules.h"
#include "launcher/engine/base/placeholder.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/base/report.h"
#include "launcher/engine/journal/journal.h"
#include "launcher/engine/journal/json_writer.h"

// What goes to the Python that writes the files is JSON, whose names are those of the classes in
// launcher/python/report/journal.py. Both sides belong to one installation; what is not of the same
// names does not.

extern char** environ;

namespace pylaunch::engine {
namespace {

// `atexit` calls us with nothing of ours.
struct {
  Journal* journal = nullptr;
  const Handoff* handoff = nullptr;
  // As it was at the start: finalisation may have taken it apart.
  const Program* program = nullptr;
  pid_t process = 0;
  bool called_at_exit = false;  // Also if an image's maker has seen to it.
  // sys.path as the program found it, but for its first entry.
  std::vector<std::string>& path = *new std::vector<std::string>();
} g;

std::string Text(PyObject* str) {
  std::string text;
  FileSystemBytes(str, &text);
  return text;
}

std::vector<std::string> SysList(const char* name) {
  std::vector<std::string> texts;
  PyObject* list = PySys_GetObject(name);
  for (Py_ssize_t i = 0; list != nullptr && PyList_Check(list) && i < PyList_GET_SIZE(list); ++i)
    texts.push_back(Text(PyList_GET_ITEM(list, i)));
  return texts;
}

std::vector<std::string> StringKeys(PyObject* dict) {
  std::vector<std::string> keys;
  PyObject *key, *value;
  Py_ssize_t position = 0;
  while (PyDict_Next(dict, &position, &key, &value)) {
    std::string text = Text(key);
    if (!text.empty()) keys.push_back(std::move(text));
  }
  return keys;
}

// The namespace of sys.modules[name], looked at without attribute access: a lazy module would load.
PyObject* Namespace(const std::string& name) {
  PyObject* module = PyDict_GetItemString(PyImport_GetModuleDict(), name.c_str());
  return module != nullptr && PyModule_Check(module) ? PyModule_GetDict(module) : nullptr;
}

// True if the symbol is there and real.
bool Has(PyObject* dict, const std::string& symbol) {
  PyRef object =
      PyRef::Share(dict == nullptr ? nullptr : PyDict_GetItemString(dict, symbol.c_str()));
  bool real = object && MissingBackends(object.get()).empty();
  PyErr_Clear();
  return real;
}

// A lazy module keeps what it has looked up in its namespace, or, where it does not, the module
// that it loaded for it has it under that name.
void LookForSymbols() {
  for (JournalEvent& event : g.journal->events) {
    const Requester& by = event.requester;
    if (by.symbol.empty() || event.outcome != JournalEvent::Outcome::kLoaded) continue;
    event.symbol_found =
        Has(Namespace(by.symbol_module), by.symbol) ||
        (Namespace(by.symbol_module) != nullptr && Has(Namespace(event.name), by.symbol));
  }
}

void WriteEvent(JsonWriter* out, const JournalEvent& event) {
  out->Object([&] {
    out->Member("kind", static_cast<int>(event.kind));
    out->Member("outcome", static_cast<int>(event.outcome));
    out->Member("name", event.name);
    out->Member("thread", event.thread);
    out->Member("parent", event.parent);
    out->Member("begin_ns", event.begin_ns);
    out->Member("end_ns", event.end_ns);
    out->Member("begin_rss", event.begin_rss);
    out->Member("end_rss", event.end_rss);
    out->Member("body", event.body);
    out->Member("own", event.own);
    out->Member("origin", event.origin);
    out->Member("loader", event.loader);
    out->Member("archive", static_cast<int>(event.archive));
    out->Member("code_bytes", event.code_bytes);
    out->Member("where", event.where);
    out->Member("request", event.request);
    out->Member("lazy", event.lazy);
    out->Member("file", event.requester.file);
    out->Member("function", event.requester.function);
    out->Member("line", event.requester.line);
    out->Member("by_own", event.requester.own);
    out->Member("symbol_module", event.requester.symbol_module);
    out->Member("symbol", event.requester.symbol);
    out->Member("symbol_found", event.symbol_found);
  });
}

// A module that looks symbols up when they are asked for: by its class, or by a `__getattr__` of
// its own.
bool IsLazy(PyObject* module) {
  return PyModule_Check(module) &&
         (!Py_IS_TYPE(module, &PyModule_Type) ||
          PyDict_GetItemString(PyModule_GetDict(module), "__getattr__") != nullptr);
}

// With what real symbols they have now.
void WriteLazyModules(JsonWriter* out) {
  std::vector<std::string> names;
  PyRef modules = PyRef::Steal(PyDict_Copy(PyImport_GetModuleDict()));
  for (std::string& name : modules ? StringKeys(modules.get()) : std::vector<std::string>()) {
    if (IsLazy(PyDict_GetItemString(modules.get(), name.c_str()))) names.push_back(std::move(name));
  }
  out->Key("lazy");
  out->Object([&] {
    for (const std::string& name : names) {
      std::vector<std::string> symbols;
      PyRef dict = PyRef::Steal(PyDict_Copy(Namespace(name)));
      if (dict) symbols = StringKeys(dict.get());
      std::erase_if(symbols, [&](const std::string& symbol) { return !Has(dict.get(), symbol); });
      out->Member(name, symbols);
    }
  });
}

// The source of `__main__`. A script's `__file__` is gone when it has come to its end.
std::string MainFile(const Program& program) {
  PyObject* main = program.filename.empty() ? Namespace("__main__") : nullptr;
  PyObject* file = main == nullptr ? nullptr : PyDict_GetItemString(main, "__file__");
  return file == nullptr ? program.filename : Text(file);
}

void WriteProgram(JsonWriter* out, const Program& program) {
  out->Member("record", g.handoff->record);
  out->Member("report", g.handoff->report);
  out->Member("pylaunch", PYLAUNCH_VERSION);
  out->Member("python", Py_GetVersion());
  out->Member("argv", SysList("orig_argv"));
  out->Member("command", program.command);
  out->Member("main_file", MainFile(program));
  out->Member("optimize", program.optimize);
  out->Member("prefix", Text(PySys_GetObject("prefix")));
  out->Member("path_before", g.path);
  out->Member("path_after", SysList("path"));
  out->Member("archive_used", !g.handoff->cache_folder.empty());
}

// The preload file's.
void WritePlan(JsonWriter* out) {
  out->Key("settings");
  out->Array(g.handoff->plan.environment, [out](const EnvSetting& setting) {
    out->Object([&] {
      out->Member("name", setting.name);
      out->Member("value", setting.value);
      out->Member("only_if_unset", setting.only_if_unset);
    });
  });
  out->Key("directives");
  out->Array(g.handoff->directives, [out](const std::string& line) { out->Value(line); });
  out->Key("entries");
  out->Array(g.handoff->plan.entries, [out](const PreloadEntry& entry) { out->Value(entry.text); });
}

void WriteJournal(JsonWriter* out, int64_t ended_ns) {
  out->Member("started_ns", g.journal->started_ns);
  out->Member("preload_ns", g.journal->preload_ns);
  out->Member("program_ns", g.journal->program_ns);
  out->Member("ended_ns", ended_ns);
  out->Member("full", g.journal->full);
  out->Key("threads");
  out->Array(g.journal->threads, [out](const JournalThread& thread) {
    out->Object([&] {
      out->Member("name", thread.name);
      out->Member("tid", thread.tid);
      out->Member("main", thread.main);
    });
  });
  out->Key("events");
  out->Array(g.journal->events, [out](const JournalEvent& event) { WriteEvent(out, event); });
  out->Key("variables");
  out->Array(g.journal->variables, [out](const VariableChange& change) {
    out->Object([&] {
      out->Member("name", change.name);
      out->Member("value", change.value);
    });
  });
}

std::string Serialize(const Program& program, int64_t ended_ns) {
  JsonWriter out;
  out.Object([&] {
    WriteProgram(&out, program);
    WriteJournal(&out, ended_ns);
    WritePlan(&out);
    PyRef modules = PyRef::Steal(PyDict_Copy(PyImport_GetModuleDict()));
    out.Member("modules", modules ? StringKeys(modules.get()) : std::vector<std::string>());
    WriteLazyModules(&out);
  });
  return out.Take();
}

void ExplainThreads() {
  const uint32_t imports = g.journal->thread_imports;
  std::string text = "threads: " + std::to_string(imports) +
                     (imports == 1 ? " import" : " imports") +
                     " on threads other than the main one";
  if (imports > 0) {
    text += " (" + std::to_string(g.journal->thread_modules) +
            (g.journal->thread_modules == 1 ? " module)" : " modules)");
  }
  if (g.journal->full) text += ", and some that there was no room to note";
  Explain(text);
}

// By a Python of its own, isolated and without the engine, which tells on our stderr what it cannot
// do.
void WriteFiles(const std::string& journal) {
  const ChildProcess child{g.handoff->python,
                           {g.handoff->python, "-I", "-S", "-B",
                            g.handoff->LibraryFile(kReporterFile), std::to_string(kJobFd)},
                           environ};
  int status;
  std::string error = RunChild(child, journal, &status);
  const bool told = WIFEXITED(status) && WEXITSTATUS(status) <= 1;
  if (error.empty() && !told)
    error = child.program + " ended with status " + std::to_string(status);
  if (error.empty()) return;
  Warning((g.handoff->record.empty() ? g.handoff->report : g.handoff->record) +
          " was not written: " + error);
}

// What `atexit` calls last.
PyObject* OnEnd(PyObject*, PyObject*) {
  if (getpid() != g.process || !JournalOn()) Py_RETURN_NONE;
  const int64_t now = MonotonicNs();
  StopJournal();
  if (g.journal->wants.threads) ExplainThreads();
  if (!g.handoff->record.empty() || !g.handoff->report.empty()) {
    LookForSymbols();
    WriteFiles(Serialize(*g.program, now));
  }
  PyErr_Clear();
  Py_RETURN_NONE;
}

PyMethodDef kOnEnd = {"pylaunch_report", OnEnd, METH_NOARGS, nullptr};

bool CallAtExit() {
  if (g.called_at_exit) return true;
  PyRef atexit = BuiltinModule("atexit");
  PyRef hook = PyRef::Steal(PyCFunction_New(&kOnEnd, nullptr));
  PyRef done = atexit && hook
                   ? PyRef::Steal(PyObject_CallMethod(atexit.get(), "register", "O", hook.get()))
                   : PyRef();
  g.called_at_exit = static_cast<bool>(done);
  if (!done) PyErr_Clear();
  return g.called_at_exit;
}

// Where the program's own modules lie: what sys.path[0] will be, if that is a folder.
std::string OwnFolder(const Program& program) {
  char buffer[PATH_MAX];
  if (program.filename.empty()) return getcwd(buffer, sizeof buffer) != nullptr ? buffer : "";
  if (realpath(program.filename.c_str(), buffer) == nullptr) return "";
  const std::string file = buffer;
  struct stat st;
  const bool folder = stat(buffer, &st) == 0 && S_ISDIR(st.st_mode);
  return folder ? file : file.substr(0, file.rfind('/'));
}

}  // namespace

void SetUpJournal(const Handoff& handoff, const Program& program, int64_t started_ns) {
  JournalWants wants;
  wants.threads = handoff.explain;
  wants.requests = !handoff.record.empty();
  wants.costs = !handoff.report.empty();
  if (!wants.threads && !wants.requests && !wants.costs) return;
  g.handoff = &handoff;
  auto* kept = new Program(program);
  if (!wants.requests) kept->WipeCommand();  // Only a record tells it.
  g.program = kept;
  g.process = getpid();
  if (!CallAtExit()) return;
  SetOwnFolder(OwnFolder(program));
  g.journal = StartJournal(wants, started_ns);
}

void ResumeJournal(const Handoff& handoff) {
  g.handoff = &handoff;
  g.process = getpid();
  StopJournal();
  if (!handoff.explain || !CallAtExit()) return;
  JournalWants wants;
  wants.threads = true;
  g.journal = StartJournal(wants, MonotonicNs());
}

void JournalProgram() {
  if (!JournalOn()) return;
  g.path = SysList("path");
  NoteProgram();
}

}  // namespace pylaunch::engine
