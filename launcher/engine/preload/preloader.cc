#include "launcher/engine/preload/preloader.h"

#include <Python.h>
#include <signal.h>
#include <unistd.h>

#include "launcher/engine/base/placeholder.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/base/report.h"
#include "launcher/engine/journal/journal.h"
#include "launcher/engine/preload/doctor.h"
#include "launcher/engine/preload/failure.h"
#include "launcher/engine/preload/half_imported.h"
#include "launcher/engine/preload/lazy_imports.h"
#include "launcher/engine/preload/main_module.h"
#include "launcher/engine/preload/state_watch.h"
#include "launcher/engine/preload/statement.h"
#include "launcher/engine/preload/surroundings.h"
#include "launcher/engine/record/variable_record.h"

namespace pylaunch::engine {
namespace {

// Runs the statement in a namespace of its own, which is returned; null with an exception set.
PyRef RunStatement(const PreloadEntry& entry) {
  PyRef globals = PyRef::Steal(PyDict_New());
  PyRef name = PyRef::Steal(PyUnicode_FromString("__pylaunch_preload__"));
  if (!globals || !name ||
      PyDict_SetItemString(globals.get(), "__builtins__", PyEval_GetBuiltins()) < 0 ||
      PyDict_SetItemString(globals.get(), "__name__", name.get()) < 0) {
    return PyRef();
  }
  const std::string statement = Statement(entry);
  // A module can keep this name; it must not depend on what an image's key does not hold.
  const std::string file = "<preload " + statement + ">";
  // Within `try` no import is lazy, whatever -X lazy_imports says (PEP 810).
  const std::string text =
      PY_VERSION_HEX >= 0x030F0000 ? "try: " + statement + "\nfinally: pass" : statement;
  PyRef code = PyRef::Steal(Py_CompileString(text.c_str(), file.c_str(), Py_file_input));
  if (!code) return PyRef();
  PyRef done = PyRef::Steal(PyEval_EvalCode(code.get(), globals.get(), globals.get()));
  return done ? std::move(globals) : PyRef();
}

// An empty string, or the backends that a placeholder among the loaded names lacks.
std::string Placeholder(const PreloadEntry& entry, PyObject* globals, std::string* name) {
  for (const std::string& n : entry.names) {
    PyObject* object = PyDict_GetItemString(globals, n.c_str());
    std::string backends = object == nullptr ? "" : MissingBackends(object);
    if (backends.empty()) continue;
    *name = n;
    return backends;
  }
  return "";
}

// Null if the statement failed, and then `failure` says why. A failed first try gets a second one,
// without what the first has left half-done; both outcomes are told.
PyRef LoadNames(const PreloadEntry& entry, Failure* failure) {
  HalfImported half_imported;
  LazyImports lazy_imports;
  PyRef globals = RunStatement(entry);
  if (globals && !entry.lazy && !lazy_imports.Resolve(entry.module)) globals = PyRef();
  if (globals) return globals;
  *failure = TakeFailure(entry);
  if (failure->missing || failure->interrupted || !half_imported.Remove()) return PyRef();
  globals = RunStatement(entry);
  if (globals) {
    Warning(entry.location.ToString() + ": '" + entry.text +
            "' loaded at the second try; the first: " + failure->cause);
  } else {
    Failure second = TakeFailure(entry);
    failure->interrupted = second.interrupted;
    failure->cause += second.cause == failure->cause ? " (twice)" : "; second try: " + second.cause;
  }
  return globals;
}

// `index`: of the entry in its plan.
std::optional<Failure> Load(const PreloadEntry& entry, size_t index) {
  EntryEnvironment environment(entry.env);
  ReadsRecording recording(index);
  Failure failure;
  PyRef globals = LoadNames(entry, &failure);
  if (!globals) return failure;
  std::string name;
  std::string backends = Placeholder(entry, globals.get(), &name);
  if (!backends.empty()) {
    failure.missing = true;
    failure.cause =
        "'" + name + "' is only a placeholder: it needs " + backends + ", which is not installed";
    failure.hint = "install " + backends + ", or mark the entry 'optional'";
    // What the placeholder would raise when it is used, by which the doctor knows it.
    const std::string raised = name + " requires the " + backends + " library but it was not found";
    failure.exception = PyRef::Steal(PyObject_CallFunction(PyExc_ImportError, "s", raised.c_str()));
    return failure;
  }
  if (entry.kind == PreloadEntry::Kind::kCall) {
    PyObject* function = PyDict_GetItemString(globals.get(), entry.names[0].c_str());
    PyRef result = PyRef::Steal(PyObject_CallNoArgs(function));
    if (!result) return TakeFailure(entry);
  }
  return std::nullopt;
}

// As stock ends a program that an interrupt stopped (Modules/main.c, exit_sigint): by the signal,
// so that shells see it.
[[noreturn]] void DieOfInterrupt() {
  Py_FinalizeEx();
  signal(SIGINT, SIG_DFL);
  kill(getpid(), SIGINT);
  _exit(128 + SIGINT);
}

// True if the launch may go on.
bool Judge(const PreloadEntry& entry, Failure& failure, const std::string& doctor, bool explain) {
  if (!entry.optional) {
    AskDoctor(doctor, entry, &failure);
    ErrorReport(entry.location.ToString() + ": required entry '" + entry.text + "' did not load",
                failure.cause, failure.hint);
    return false;
  }
  std::string what = entry.location.ToString() + ": optional entry '" + entry.text + "' ";
  if (!failure.missing) {
    // The doctor would import things into this process, where the program is to run yet.
    Warning(what + "is broken: " + failure.cause + "; examine it: pylaunch --doctor --preload '" +
            entry.text + "'");
  } else if (explain) {
    Explain(what + "is missing: " + failure.cause);
  }
  return true;
}

}  // namespace

std::optional<int> Preload(const PreloadPlan& plan, const std::vector<size_t>& which,
                           const Program& program, const std::string& doctor, bool explain,
                           const std::function<void(size_t)>& before) {
  bool interrupted = false;
  bool stop = false;
  {
    ProgramPath path(program);
    MainModule main(program);
    CollectionHeldBack collection;
    StateWatch state(explain ? doctor : "");
    for (const size_t i : which) {
      const PreloadEntry& entry = plan.entries[i];
      if (before) before(i);
      const int event = JournalOn() ? EntryBegins(entry) : -1;
      std::optional<Failure> failure = Load(entry, i);
      EntryEnds(event, !failure);
      const std::string set = state.Changes();
      if (!set.empty()) Explain(entry.location.ToString() + ": '" + entry.text + "' sets " + set);
      if (!failure) continue;
      interrupted = failure->interrupted;
      stop = interrupted || !Judge(entry, *failure, doctor, explain);
      if (stop) break;
    }
  }
  if (interrupted) DieOfInterrupt();
  if (stop) return 1;
  return std::nullopt;
}

}  // namespace pylaunch::engine
