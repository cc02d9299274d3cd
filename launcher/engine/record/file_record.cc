#include "launcher/engine/record/file_record.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <mutex>
#include <string_view>
#include <utility>

#include "image/kernel_files.h"
#include "launcher/contract/handoff.h"
#include "launcher/engine/libc/file_calls.h"
#include "launcher/engine/libc/start_calls.h"

namespace pylaunch::engine {
namespace {

using Path = ReadRecord::Path;

// The C library's functions tell us with nothing of ours.
struct {
  std::mutex mutex;
  ReadRecord* record = nullptr;
  // What no restored process may find done; OwnDeeds is asked after the record has been stopped,
  // too.
  std::set<std::string>* own_names = new std::set<std::string>();
  std::set<std::string>* inputs = new std::set<std::string>();
  bool questions_count = false;  // Under the lock.
  pid_t process = 0;
} g;
thread_local int t_pauses = 0;

constexpr std::string_view kUsualDevices[] = {
    "/dev/null", "/dev/zero",    "/dev/full",  "/dev/random", "/dev/urandom", "/dev/tty",
    "/dev/ptmx", "/dev/console", "/dev/stdin", "/dev/stdout", "/dev/stderr",  "/dev/fd"};

bool IsBytecode(std::string_view path) { return path.ends_with(".pyc"); }

bool IsLeftOut(std::string_view path) {
  return IsBytecode(path) || path.starts_with("/dev/pts/") || path.starts_with("/dev/fd/") ||
         std::find(std::begin(kUsualDevices), std::end(kUsualDevices), path) !=
             std::end(kUsualDevices);
}

// A name for a descriptor of this process, which its starter has given it (proc(5)).
bool IsDescriptor(std::string_view path) {
  if (path == "/dev/stdin") return true;
  const size_t fd = path.rfind("/fd/");
  if (fd == path.npos || !(path.starts_with("/proc/") || path.starts_with("/dev/fd/"))) {
    return false;
  }
  const std::string_view number = path.substr(fd + 4);
  return !number.empty() && std::all_of(number.begin(), number.end(),
                                        [](unsigned char c) { return std::isdigit(c) != 0; });
}

// Of a descriptor, or of this process. Empty: unknown.
std::string FolderPath(int folder) {
  char buffer[PATH_MAX];
  if (folder == AT_FDCWD) return getcwd(buffer, sizeof buffer) != nullptr ? buffer : "";
  const std::string link = "/proc/self/fd/" + std::to_string(folder);
  const ssize_t n = readlink(link.c_str(), buffer, sizeof buffer);
  return n > 0 && buffer[0] == '/' ? std::string(buffer, static_cast<size_t>(n)) : "";
}

// `see` says what is so now, unless that is known from before. The file system is not asked under
// the lock.
template <typename Answer, typename See>
void Note(const std::string& path, std::optional<Answer> Path::*answer, const See& see) {
  {
    std::lock_guard<std::mutex> lock(g.mutex);
    if (g.record == nullptr) return;
    const auto known = g.record->paths.find(path);
    if (known != g.record->paths.end() && (known->second.*answer).has_value()) return;
    if (g.record->made.count(path) != 0) {
      g.record->paths[path].*answer = Answer();
      return;
    }
  }
  Answer now = see(path);
  std::lock_guard<std::mutex> lock(g.mutex);
  if (g.record == nullptr) return;
  std::optional<Answer>& first = g.record->paths[path].*answer;
  if (!first) first = std::move(now);
}

void NoteTarget(const std::string& path) {
  Note(path, &Path::target, [](const std::string& at) { return image::AskedOf(at, false); });
}

// Of a link both, since who asks for its text goes where it leads.
void NoteLink(const std::string& path) {
  bool link = false;
  Note(path, &Path::link, [&link](const std::string& at) {
    struct stat st;
    if (lstat(at.c_str(), &st) != 0) return image::FileState();
    link = S_ISLNK(st.st_mode);
    return image::AskedOf(st);
  });
  if (link) NoteTarget(path);
}

// realpath(3) reads every link on the way, and on the ways that these lead.
void NoteLinksOf(const std::string& path, int depth = 0) {
  constexpr int kMostLinks = 40;  // path_resolution(7)
  for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (!part.ends_with('/')) NoteLink(part);
    char text[PATH_MAX];
    const ssize_t n = readlink(part.c_str(), text, sizeof text);
    if (n > 0 && depth < kMostLinks) {
      const std::string to(text, static_cast<size_t>(n));
      const std::string from = to[0] == '/' ? "" : part.substr(0, part.rfind('/') + 1);
      NoteLinksOf(from + to + (end == path.npos ? "" : path.substr(end)), depth + 1);
      return;
    }
    if (end == path.npos) return;
  }
}

void NoteNames(const std::string& path) {
  Note(path, &Path::names, [](const std::string& at) { return image::NamesIn(at); });
}

// Who opens a folder lists it by its descriptor.
void NoteOpening(const std::string& path, int flags) {
  NoteTarget(path);
  struct stat st;
  const bool folder = (flags & O_PATH) == 0 && stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
  if (folder) NoteNames(path);
}

// A process number is as good as chance, where it is not that of the first ones in a container.
bool HasOwnNumber(const std::string& path) {
  constexpr size_t kTellingDigits = 3;
  const std::string own = std::to_string(getpid());
  const auto is_digit = [&path](size_t at) {
    return at < path.size() && std::isdigit(static_cast<unsigned char>(path[at])) != 0;
  };
  if (own.size() < kTellingDigits) return false;
  for (size_t at = path.rfind('/'); (at = path.find(own, at + 1)) != path.npos;) {
    if (!is_digit(at - 1) && !is_digit(at + own.size())) return true;
  }
  return false;
}

// Directly in a folder for temporary files (Lib/tempfile.py). What is private elsewhere, ~/.cache,
// has a name that the next process knows.
bool IsTemporary(const std::string& path) {
  const std::string_view folder = std::string_view(path).substr(0, path.rfind('/'));
  for (const std::string_view known : {"/tmp", "/var/tmp", "/usr/tmp", "/dev/shm"}) {
    if (folder == known) return true;
  }
  // getenv() would be recorded as a read.
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    for (const std::string_view name : {"TMPDIR=", "TEMP=", "TMP="}) {
      if (!text.starts_with(name)) continue;
      std::string_view value = text.substr(name.size());
      if (value.ends_with('/')) value.remove_suffix(1);
      if (!value.empty() && folder == value) return true;
    }
  }
  return false;
}

void NoteMade(const std::string& path, bool own) {
  std::lock_guard<std::mutex> lock(g.mutex);
  if (g.record == nullptr) return;
  std::optional<image::FileState>& first = g.record->paths[path].target;
  if (!first) first = image::FileState();
  g.record->made.insert(path);
  if (own) g.own_names->insert(path);
}

bool IsThere(const std::string& path) {
  struct stat st;
  return lstat(path.c_str(), &st) == 0;
}

// Before a call that may make it.
void NoteOwnName(const std::string& path) {
  if (IsThere(path) || !HasOwnNumber(path)) return;
  std::lock_guard<std::mutex> lock(g.mutex);
  if (g.record != nullptr) g.own_names->insert(path);
}

// What will be written counts as made by us if it is read or removed later.
void NoteCreation(const std::string& path) {
  if (IsThere(path)) return;
  NoteOwnName(path);
  std::lock_guard<std::mutex> lock(g.mutex);
  if (g.record != nullptr) g.record->made.insert(path);
}

void NoteKernelFile(const std::string& path) {
  std::optional<image::Fact> now = image::KernelFileFact(path);
  std::lock_guard<std::mutex> lock(g.mutex);
  if (g.record == nullptr || !now) return;
  ++g.record->kernel_calls[now->name];
  g.record->kernel_files.emplace(std::move(now->name), std::move(now->value));
}

void NoteCall(FileCall call, const std::string& path, int flags) {
  switch (call) {
    case FileCall::kAskMayWrite:
      NoteQuestionOfStart(image::kUser);
      return NoteTarget(path);
    case FileCall::kAsk:
      return NoteTarget(path);
    case FileCall::kAskLink:
    case FileCall::kFailed:
      return NoteLink(path);
    case FileCall::kResolve:
      return NoteLinksOf(path);
    case FileCall::kOpen:
      if ((flags & O_CREAT) != 0) NoteOwnName(path);
      return NoteOpening(path, flags);
    case FileCall::kList:
      NoteTarget(path);
      return NoteNames(path);
    case FileCall::kCreate:
      return NoteCreation(path);
    case FileCall::kMade:
      return NoteMade(path, HasOwnNumber(path));
    case FileCall::kMadePrivate:
      return NoteMade(path, HasOwnNumber(path) || IsTemporary(path));
    case FileCall::kMadeOwn:
      return NoteMade(path, /*own=*/true);
  }
}

// Not of a child, which may have been forked while another thread held the lock.
bool Counts() { return t_pauses == 0 && getpid() == g.process; }

void OnFileCall(FileCall call, int folder, const char* asked, int flags) {
  if (!Counts()) return;
  std::string path = asked;
  const bool relative = path[0] != '/';
  std::string from;
  if (relative) {
    from = FolderPath(folder);
    path = (from == "/" ? "" : from) + "/" + path;
  }
  const bool input = call == FileCall::kOpen && IsDescriptor(path);
  {
    std::lock_guard<std::mutex> lock(g.mutex);
    if (g.record == nullptr) return;
    if (relative && from.empty()) {
      g.record->unknown = std::string(asked) + ", relative to an unknown folder";
    }
    if (input) g.inputs->insert(path);
    if (call == FileCall::kOpen && IsBytecode(path)) g.record->bytecode.insert(path);
    if (IsLeftOut(path)) return;
    if (relative && from == g.record->folder) g.record->relative.insert(path);
  }
  image::IsKernelFile(path) ? NoteKernelFile(path) : NoteCall(call, path, flags);
}

void OnStartCall(StartCall call, int fd) {
  if (!Counts()) return;
  if (call == StartCall::kUserEntry) NoteTarget("/etc/passwd");  // passwd(5), read by libc itself.
  std::lock_guard<std::mutex> lock(g.mutex);
  if (g.record == nullptr) return;
  if (call == StartCall::kHostName) g.record->asked.insert(kHostName);
  if (call == StartCall::kProcessors) g.record->asked.insert(image::kProcessors);
  if (call == StartCall::kUserEntry) g.record->asked.insert(image::kUser);
  if (!g.questions_count) return;
  if (call == StartCall::kUser) g.record->asked.insert(image::kUser);
  if (call == StartCall::kIsTerminal) g.record->asked.insert(TerminalFact(fd));
  if (call == StartCall::kWorkingDirectory) g.record->asked_folder = true;
  if (call == StartCall::kReadInput) g.inputs->insert("standard input");
}

}  // namespace

void StartReadRecord() {
  g.process = getpid();
  g.record = new ReadRecord;
  g.record->folder = FolderPath(AT_FDCWD);
  ListenToFileCalls(OnFileCall);
  ListenToStartCalls(OnStartCall);
}

void RecordQuestionsOfStart() {
  std::lock_guard<std::mutex> lock(g.mutex);
  g.questions_count = true;
}

void NoteQuestionOfStart(const char* fact) {
  std::lock_guard<std::mutex> lock(g.mutex);
  if (g.record != nullptr && t_pauses == 0) g.record->asked.insert(fact);
}

ReadRecord StopReadRecord() {
  ListenToFileCalls(nullptr);
  ListenToStartCalls(nullptr);
  std::lock_guard<std::mutex> lock(g.mutex);
  ReadRecord record = std::move(*g.record);
  delete std::exchange(g.record, nullptr);
  return record;
}

std::vector<std::string> OwnDeeds() {
  std::vector<std::string> deeds;
  std::lock_guard<std::mutex> lock(g.mutex);
  for (const std::string& path : *g.own_names) {
    struct stat st;
    if (lstat(path.c_str(), &st) == 0) deeds.push_back("left " + path);
  }
  for (const std::string& input : *g.inputs) deeds.push_back("read " + input);
  return deeds;
}

ReadRecordPause::ReadRecordPause() { ++t_pauses; }
ReadRecordPause::~ReadRecordPause() { --t_pauses; }

}  // namespace pylaunch::engine
