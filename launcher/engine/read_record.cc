#include "launcher/engine/read_record.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include <mutex>
#include <string_view>
#include <utility>

#include "launcher/engine/file_calls.h"

namespace pylaunch::engine {
namespace {

std::mutex g_mutex;
ReadRecord* g_record = nullptr;
thread_local int t_pauses = 0;

bool IsLeftOut(std::string_view path) {
  return path.ends_with(".pyc") || path.starts_with("/proc/") || path.starts_with("/sys/") ||
         path.starts_with("/dev/");
}

bool ReadsNothing(FileCall call, int flags) {
  return call == FileCall::kOpen && ((flags & O_ACCMODE) == O_WRONLY || (flags & O_EXCL) != 0);
}

// Of a descriptor, or of this process. Empty: unknown.
std::string FolderPath(int folder) {
  char buffer[PATH_MAX];
  if (folder == AT_FDCWD) return getcwd(buffer, sizeof buffer) != nullptr ? buffer : "";
  const std::string link = "/proc/self/fd/" + std::to_string(folder);
  const ssize_t n = readlink(link.c_str(), buffer, sizeof buffer);
  return n > 0 && buffer[0] == '/' ? std::string(buffer, static_cast<size_t>(n)) : "";
}

void Note(FileCall call, int folder, const char* asked, int flags) {
  if (t_pauses > 0 || ReadsNothing(call, flags)) return;
  std::string path = asked;
  std::string unknown;
  if (path[0] != '/') {
    const std::string from = FolderPath(folder);
    if (from.empty()) unknown = path + ", relative to an unknown folder";
    path = from + "/" + path;
  }
  if (IsLeftOut(path)) return;
  std::lock_guard<std::mutex> lock(g_mutex);
  if (g_record == nullptr) return;
  if (!unknown.empty()) g_record->unknown = unknown;
  (call == FileCall::kList ? g_record->folders : g_record->files).insert(std::move(path));
}

}  // namespace

void StartReadRecord() {
  g_record = new ReadRecord;
  ListenToFileCalls(Note);
}

ReadRecord StopReadRecord() {
  ListenToFileCalls(nullptr);
  std::lock_guard<std::mutex> lock(g_mutex);
  ReadRecord record = std::move(*g_record);
  delete std::exchange(g_record, nullptr);
  return record;
}

ReadRecordPause::ReadRecordPause() { ++t_pauses; }
ReadRecordPause::~ReadRecordPause() { --t_pauses; }

}  // namespace pylaunch::engine
