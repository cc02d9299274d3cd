#include "launcher/engine/exit_handlers.h"

#include <dlfcn.h>
#include <sys/stat.h>

#include <deque>
#include <mutex>
#include <string_view>
#include <unordered_map>

#include "launcher/engine/name_list.h"

namespace pylaunch::engine {
namespace {

using Handler = void (*)(void*);
using Register = int (*)(Handler, void*, void*);

struct Handlers {
  struct Record {
    Handler function;
    void* argument;
    void* library;  // Its __dso_handle, an address inside of it; null for the executable.
    bool quiet = false;
  };
  std::mutex mutex;
  std::deque<Record> records;  // The C library has their addresses.
};

Handlers* g_handlers = nullptr;
bool g_leave_out = false;

void Run(void* pointer) {
  const auto* record = static_cast<Handlers::Record*>(pointer);
  if (record->quiet && g_leave_out) return;
  record->function(record->argument);
}

Handlers::Record* Remember(Handler function, void* argument, void* library) {
  std::lock_guard<std::mutex> lock(g_handlers->mutex);
  g_handlers->records.push_back({function, argument, library});
  return &g_handlers->records.back();
}

bool IsQuiet(void* library, const NameList& names) {
  Dl_info info;
  if (library == nullptr || dladdr(library, &info) == 0 || info.dli_fname == nullptr) return false;
  std::string_view name = info.dli_fname;
  return names.count(name.substr(name.rfind('/') + 1)) != 0;
}

// Each thread is a folder in it: a link more (proc_task_getattr in fs/proc/base.c).
bool IsOnlyThread() {
  struct stat st;
  return stat("/proc/self/task", &st) == 0 && st.st_nlink == 3;
}

}  // namespace

void RecordExitHandlers() { g_handlers = new Handlers; }

void MarkQuietLibraries(const std::string& list) {
  if (g_handlers == nullptr) return;
  const NameList names = ReadNameList(list);
  std::unordered_map<void*, bool> known;
  for (Handlers::Record& record : g_handlers->records) {
    const auto [place, is_new] = known.try_emplace(record.library, false);
    if (is_new) place->second = IsQuiet(record.library, names);
    record.quiet = place->second;
  }
}

void LeaveOutQuietHandlers() { g_leave_out = g_handlers != nullptr && IsOnlyThread(); }

}  // namespace pylaunch::engine

extern "C" __attribute__((visibility("default"))) int __cxa_atexit(void (*function)(void*),
                                                                   void* argument,
                                                                   void* library) noexcept {
  namespace engine = pylaunch::engine;
  static const auto real = reinterpret_cast<engine::Register>(dlsym(RTLD_NEXT, "__cxa_atexit"));
  if (engine::g_handlers == nullptr) return real(function, argument, library);
  return real(engine::Run, engine::Remember(function, argument, library), library);
}
