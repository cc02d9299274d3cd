#include "launcher/engine/exit/exit_handlers.h"

#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <deque>
#include <memory_resource>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "launcher/engine/base/known_list.h"
#include "launcher/engine/exit/exit_list.h"
#include "launcher/engine/exit/library_ends.h"
#include "launcher/engine/libc/exit_calls.h"

extern "C" {
extern struct _IO_FILE_plus* _IO_list_all;  // Of all streams: a list by FILE::_chain.
extern __attribute__((visibility("hidden"))) void* __dso_handle;
}

namespace pylaunch::engine {
namespace {

struct Handlers {
  struct Record {
    ExitFunction function;
    void* argument;
    void* library;
    bool quiet = false;
    bool done = false;
  };
  std::mutex mutex;
  // The C library has the addresses of the records. Close together: at the end all are looked at.
  std::pmr::monotonic_buffer_resource memory{size_t{64} << 10};
  std::pmr::deque<Record> records{&memory};
  LibraryEnds ends;
  KnownList plugin_folders;
  ExitList list;
  size_t listed = 0;  // Records when the list was noted last.
};

// Libraries register their functions, and exit(3) runs ours, with nothing of ours. Never freed:
// the last of them come after our own destructors.
constinit struct {
  Handlers* handlers = nullptr;
  bool leave_out = false;
  bool list_known = true;
  void (*at_the_end)() = nullptr;
} g;

// Twice for one record, where a handler that we run calls exit(3).
void Run(void* pointer) {
  auto* record = static_cast<Handlers::Record*>(pointer);
  if (record->done) return;
  record->done = true;
  if (record->quiet && g.leave_out) return;
  record->function(record->argument);
}

Handlers::Record* Remember(ExitFunction function, void* argument, void* library) {
  std::lock_guard<std::mutex> lock(g.handlers->mutex);
  g.handlers->records.push_back({function, argument, library});
  return &g.handlers->records.back();
}

int Register(ExitFunction function, void* argument, void* library) {
  return RegisterForExit(Run, Remember(function, argument, library), library);
}

void DoNothing(void*) {}

// By a function of ours it is seen that the list is what we take it for.
bool IsListKnown() {
  return Register(DoNothing, nullptr, &__dso_handle) == 0 &&
         g.handlers->list.EndsWith(&g.handlers->records.back());
}

// False: the C library knows of functions that we do not.
bool IsListRecorded() {
  const auto& records = g.handlers->records;
  std::unordered_set<const void*> known;
  for (size_t i = g.handlers->listed; i < records.size(); ++i) known.insert(&records[i]);
  return g.handlers->list.HasOnly(
      [&known](const void* argument) { return known.count(argument) != 0; });
}

void NoteList() {
  if (!g.handlers->list.Note()) g.list_known = false;
  g.handlers->listed = g.handlers->records.size();
}

bool IsQuiet(void* library, KnownList* quiet) {
  Dl_info info;
  if (library == nullptr || dladdr(library, &info) == 0 || info.dli_fname == nullptr) return false;
  return quiet->HasLibrary(info.dli_fname);
}

// Each thread is a folder in it: a link more (proc_task_getattr in fs/proc/base.c).
bool IsOnlyThread() {
  struct stat st;
  return stat("/proc/self/task", &st) == 0 && st.st_nlink == 3;
}

// What the C library does to its streams at the end (_IO_cleanup in glibc's libio/genops.c) is for
// those that are read from more than a flush: what was read ahead is given back.
bool MustRewind(const FILE* stream) {
  return stream->_mode > 0 || stream->_IO_read_ptr != stream->_IO_read_end;
}

bool StreamsNeedOnlyFlushing() {
  const FILE* stream = reinterpret_cast<const FILE*>(_IO_list_all);
  while (stream != nullptr && !MustRewind(stream)) stream = stream->_chain;
  return stream == nullptr;
}

// Goes through what must run, as exit(3) does: last registered first, and what handlers register
// comes next.
class Backwards {
 public:
  Handlers::Record* Next() {
    std::lock_guard<std::mutex> lock(g.handlers->mutex);
    if (g.handlers->records.size() > seen_) at_ = seen_ = g.handlers->records.size();
    while (at_ > 0) {
      Handlers::Record& record = g.handlers->records[--at_];
      if (!record.done && !record.quiet) return &record;
    }
    return nullptr;
  }

 private:
  size_t seen_ = 0;
  size_t at_ = 0;
};

void CallLast() {
  if (g.at_the_end != nullptr) g.at_the_end();
}

// The first thing that exit(3) runs: the whole of it, less what nobody would notice. To return
// means to leave it to the C library.
void EndProcess(int status, void*) {
  if (!IsOnlyThread()) return;
  if (!IsListRecorded() || !g.handlers->ends.AreKnown() || !StreamsNeedOnlyFlushing()) {
    return CallLast();
  }
  Backwards backwards;
  while (Handlers::Record* record = backwards.Next()) Run(record);
  if (!IsListRecorded()) return CallLast();
  g.handlers->ends.Run();
  std::fflush(nullptr);
  CallLast();
  _exit(status);
}

}  // namespace

void RecordExitHandlers() {
  g.handlers = new Handlers;
  NoteList();
  ListenToExitCalls(Register);
}

void MarkQuietLibraries(const std::string& folder) {
  if (g.handlers == nullptr) return;
  if (!g.list_known || !AllExitCallsTold() || !IsListKnown() || !IsListRecorded())
    g.list_known = false;
  NoteList();
  g.handlers->plugin_folders = KnownList::Read(folder + "/plugin_folders.txt");
  KnownList quiet, separate = KnownList::Read(folder + "/separate_libraries.txt");
  if (!g.handlers->ends.IsAnyIn(g.handlers->plugin_folders)) {
    quiet = KnownList::Read(folder + "/quiet_libraries.txt");
  }
  std::unordered_map<void*, bool> known;
  for (Handlers::Record& record : g.handlers->records) {
    const auto [place, is_new] = known.try_emplace(record.library, false);
    if (is_new) place->second = IsQuiet(record.library, &quiet);
    record.quiet = place->second;
  }
  g.handlers->ends.Note(&quiet, &separate);
}

void CallAtTheEnd(void (*function)()) { g.at_the_end = function; }

void LeaveOutQuietHandlers() {
  g.leave_out = g.handlers != nullptr && IsOnlyThread() &&
                !g.handlers->ends.IsAnyIn(g.handlers->plugin_folders);
  if (g.leave_out && g.list_known && AllExitCallsTold()) RegisterForExit(EndProcess);
}

}  // namespace pylaunch::engine
