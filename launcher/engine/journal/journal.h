#ifndef PYLAUNCH_LAUNCHER_ENGINE_JOURNAL_JOURNAL_H_
#define PYLAUNCH_LAUNCHER_ENGINE_JOURNAL_JOURNAL_H_

#include <Python.h>
#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/contract/preload_plan.h"
#include "launcher/engine/journal/requester.h"

namespace pylaunch::engine {

// What was imported, when, by whom and at what cost: what --record, --report and --explain's lines
// on threads are made of. The import shield, the preloader and the archive tell it; it lives in
// memory of ours until journal_report sends it off. Off unless one of these options is given, and
// then each hook is one test of a bool, in places where a module is missing anyway. All functions
// need the GIL, keep an exception that is set, and let nothing of ours raise one.

struct JournalWants {
  bool threads = false;   // --explain: a line for each import on another thread than the main one.
  bool requests = false;  // --record: who asked for it.
  bool costs = false;     // --report: memory, the archive's answers.
};

// How the archive answered for the code of a module. The report's Python
// (launcher/python/report/journal.py) knows these numbers.
enum class ArchiveAnswer : uint8_t {
  kNotAsked,  // No archive in use, or the module is none that it could hold.
  kHit,
  kAbsent,
  kStale,
  kCorrupt,
};

struct JournalEvent {
  enum class Kind : uint8_t { kImport, kEntry };
  enum class Outcome : uint8_t { kUnfinished, kLoaded, kNotFound, kFailed };
  Kind kind = Kind::kImport;
  Outcome outcome = Outcome::kUnfinished;
  std::string name;  // Of the module; of an entry what it says.
  int thread = 0;    // Index into Journal::threads.
  int parent = -1;   // The event during which this one began, on the same thread.
  int64_t begin_ns = 0;
  int64_t end_ns = 0;
  int64_t begin_rss = 0;  // Of the process, in bytes.
  int64_t end_rss = 0;
  bool body = false;     // importlib went on to run the module's body, or to load the extension.
  bool own = false;      // One of the program's own modules.
  bool of_load = false;  // Began with the body: nobody had asked importlib to find it.
  std::string origin;    // spec.origin
  std::string loader;    // The name of spec.loader's class; empty: none (a namespace package).
  ArchiveAnswer archive = ArchiveAnswer::kNotAsked;
  uint64_t code_bytes = 0;  // Of marshal data, where the archive gave it.
  std::string where;        // Of an entry: "configs.txt:4:1".
  bool request = false;     // Not part of another module's load, but for the program's own.
  bool lazy = false;        // Somebody looked at a name that an import had left pending (PEP 810).
  Requester requester;      // Of a request.
  bool symbol_found = false;  // The requester's symbol is there, and is no placeholder.
};

struct JournalThread {
  std::string name;
  pid_t tid = 0;
  bool main = false;
  std::vector<int> stack = {};  // Events under way, outermost first.
  uint32_t loaded = 0;          // Modules, since the outermost event began.
};

// A variable that the program has set (environment_setter.h) before an import on the main thread.
struct VariableChange {
  std::string name;
  std::string value;
};

struct Journal {
  JournalWants wants;
  std::vector<JournalEvent> events;
  std::deque<JournalThread> threads;  // A deque: others may be added while one is in use.
  std::vector<VariableChange> variables;
  int64_t started_ns = 0;       // CLOCK_MONOTONIC, as all times here: the engine took over.
  int64_t preload_ns = 0;       // 0: nothing was preloaded.
  int64_t program_ns = 0;       // 0: the program never began.
  bool full = false;            // There were more events than are kept.
  uint32_t thread_imports = 0;  // Imports on other threads that loaded something...
  uint32_t thread_modules = 0;  // ...and what they loaded.
};

// Outside the journal: every import asks, and is not to call a function for it.
extern bool g_journal_on;
inline bool JournalOn() { return g_journal_on; }

// Begins anew. REQUIRES: the first process of this launch, or one restored from an image; one
// thread.
Journal* StartJournal(const JournalWants& wants, int64_t started_ns);
// For good; also what a forked child does.
void StopJournal();

// importlib looks for `name`, which is not in sys.modules. The index to end it with.
int ImportBegins(PyObject* name);
// `module`: null with an exception set if it failed.
void ImportEnds(int event, PyObject* module);

// importlib runs the body of `spec`.
int BodyBegins(PyObject* spec);
void BodyEnds(int event, PyObject* module);

// During a body: what the archive said to it.
void NoteArchiveAnswer(ArchiveAnswer answer, uint64_t code_bytes);

int EntryBegins(const PreloadEntry& entry);
void EntryEnds(int event, bool loaded);

// The program has set a variable; no value: it is as preloading left it, or unset. Any thread with
// the GIL.
bool WantsVariables();
void NoteVariable(const std::string& name, const std::optional<std::string>& value);

void NotePreload();  // It begins now.
void NoteProgram();  // It begins now.

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_JOURNAL_JOURNAL_H_
