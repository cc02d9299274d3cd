#include "launcher/engine/environment/environment_watch.h"

#include <Python.h>
#include <unistd.h>

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "image/secrets.h"
#include "launcher/engine/base/interpreter_object.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/base/report.h"
#include "launcher/engine/environment/environment_reads.h"
#include "launcher/engine/environment/environment_setter.h"
#include "launcher/engine/journal/journal.h"
#include "launcher/engine/libc/environment_calls.h"

namespace pylaunch::engine {
namespace {

struct Watch {
  const PreloadPlan* plan = nullptr;
  bool explain = false;
  pid_t process = 0;
  std::set<std::string> told;  // Under the GIL.
  EnvironmentReads left;       // What preloading left, of variables that were changed since.
};
// setenv(3) and its like call OnChange with nothing of ours.
Watch* g_watch = nullptr;

const PreloadEntry& Entry(size_t index) { return g_watch->plan->entries[index]; }

bool IsFile(const std::string& source) {
  return source != "--preload" && source != "PYLAUNCH_PRELOAD";
}

std::string Place(const PreloadEntry& entry) {
  if (!IsFile(entry.location.source)) return "--preload";
  return entry.location.source + ":" + std::to_string(entry.location.line);
}

// The line for the preload file (launcher/command_line/preload_file.h); nothing for what it cannot
// say.
std::optional<std::string> Line(const std::string& name, const std::string& value, bool if_unset) {
  std::string quote;
  if (value.find_first_of(" \t") != value.npos || value.find_first_of("='\"") == 0) {
    quote = value.find('\'') == value.npos ? "'" : "\"";
    if (value.find(quote) != value.npos) return std::nullopt;
  }
  for (const char c : value) {
    if (static_cast<unsigned char>(c) < ' ' && c != '\t') return std::nullopt;
  }
  return name + (if_unset ? "?=" : "=") + quote + value + quote;
}

std::string Cure(const std::string& name, const char* value, bool if_unset,
                 const PreloadEntry& reader) {
  if (value == nullptr) return "start without it: env -u " + name + " pylaunch ...";
  std::optional<std::string> line;
  if (!image::IsPrivateName(name)) line = Line(name, value, if_unset);
  if (!line) return "set it in the shell, before the start";
  const std::string& source = reader.location.source;
  const std::string where = IsFile(source) ? "put this line into " + source : "preload this, too";
  return where + ": " + *line;
}

void ExplainReaders(const std::string& name) {
  std::string readers;
  for (const size_t index : PreloadReads().Entries(name)) {
    const PreloadEntry& entry = Entry(index);
    readers += (readers.empty() ? "" : ", ") + entry.location.ToString() + " '" + entry.text + "'";
  }
  Explain("environment: " + name + " was read by " + readers);
}

// True for the value that preloading left the variable with.
bool WasLeftSo(const EnvironmentChange& change) {
  EnvironmentReads& left = g_watch->left;
  if (left.Last(change.name) == nullptr) left.Add(change.name, change.before, 0);
  return left.Last(change.name)->Saw(change.value);
}

void WarnOf(const std::string& name, const std::optional<std::string>& value,
            const EnvironmentSetter& setter) {
  if (!g_watch->told.insert(name).second) return;
  const PreloadEntry& reader = Entry(PreloadReads().Entries(name).front());
  Warning(setter.file + ":" + std::to_string(setter.line) + (value ? " sets " : " removes ") +
          name + ", which preloading '" + reader.text + "' (" + Place(reader) +
          ") has already read; " +
          Cure(name, value ? value->c_str() : nullptr, setter.if_unset, reader));
  if (g_watch->explain) ExplainReaders(name);
}

void OnChange(const EnvironmentChange& change) {
  const EnvironmentRead* read = PreloadReads().Last(change.name);
  const bool recorded = WantsVariables();
  if (read == nullptr && !recorded) return;
  const bool left_so = WasLeftSo(change);
  const bool warned = read != nullptr && !left_so && !read->Saw(change.value);
  // posix.putenv() and unsetenv() call with the GIL held, and nothing else in CPython calls
  // setenv() after its start. Asked before anything of CPython is touched.
  if ((!recorded && !warned) || !IsInterpreters(change.caller) || getpid() != g_watch->process) {
    return;
  }
  // Kept: the calls below may let another thread change the environment.
  const std::string name = change.name;
  const std::optional<std::string> value =
      change.value == nullptr ? std::nullopt : std::optional(change.value);
  const std::optional<EnvironmentSetter> setter =
      left_so ? std::nullopt : FindEnvironmentSetter(name);
  if (recorded) NoteVariable(name, setter ? value : std::nullopt);
  if (warned && setter) WarnOf(name, value, *setter);
}

void ExplainReads() {
  std::string set;
  const std::vector<EnvironmentRead> reads = PreloadReads().All();
  for (const EnvironmentRead& read : reads) {
    if (read.value) set += (set.empty() ? "; set: " : ", ") + read.name;
  }
  Explain("environment: preloading has read " + std::to_string(reads.size()) + " variables" + set);
}

}  // namespace

void WatchEnvironment(const PreloadPlan& plan, bool explain) {
  if (PreloadReads().empty() && !WantsVariables()) return;
  if (g_watch == nullptr) g_watch = new Watch();
  g_watch->plan = &plan;
  g_watch->explain = explain;
  g_watch->process = getpid();
  IsInterpreters(nullptr);  // Not for the first time in setenv().
  if (explain && !PreloadReads().empty()) ExplainReads();
  ListenToChanges(OnChange);
}

}  // namespace pylaunch::engine
