#include "launcher/engine/record/output_record.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio_ext.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <atomic>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <string_view>
#include <vector>

#include "launcher/contract/handoff.h"
#include "launcher/engine/libc/output_calls.h"
#include "launcher/engine/record/file_record.h"

namespace pylaunch::engine {
namespace {

constexpr uint32_t kMostBytes = 64 << 10;
constexpr int64_t kSecond = 1'000'000'000;

// The last one: by what the child has written and this process read, it is told whether it is one.
enum Deed : uint32_t { kTooMuch = 1, kToCopy = 2, kByChild = 4, kMaybeByChild = 8 };
constexpr std::pair<Deed, const char*> kWords[] = {
    {kTooMuch, "printed more than 64 KiB"},
    {kToCopy, "wrote to a copy of standard output or error"},
    {kByChild, "printed by a child process, as far as is known"}};

// One piece of what was written, and the bytes behind it.
struct Piece {
  uint32_t stream;  // 0: who was to fill it has been killed.
  uint32_t size;
};

// Shared with forked children: nothing here needs a lock.
struct Log {
  std::atomic<uint32_t> used;
  std::atomic<uint32_t> deeds;
  // When a stream was last written to, as its file says, if a child process has it now; else 0.
  std::atomic<int64_t> last_write_ns[3];
  char bytes[kMostBytes];
};

struct Identity {
  bool open = false;
  dev_t device = 0;
  ino_t inode = 0;
  bool null = false;  // /dev/null
  mode_t mode = 0;
  int64_t modified_ns = 0;

  bool Is(const Identity& other) const {
    return open && other.open && device == other.device && inode == other.inode;
  }
};

// The C library's functions tell us with nothing of ours.
constinit struct {
  std::atomic<Log*> log = nullptr;
  Identity streams[3];
  // Of those that lead to /dev/null, which many open for themselves: O_NONBLOCK, which means
  // nothing there, is put on ours while this records, so that copies of it are known.
  bool marked[3] = {};
  bool any_null = false;
  pid_t process = 0;
  uint32_t looked_at = 0;  // How much of it.
  time_t looked_when = 0;
  size_t looks = 0;
  std::string* pending = nullptr;
  size_t pending_looked_at = 0;  // How much of it was the same at the last look.
  // Bytes that children wrote until they were waited for, and that this process read from pipes.
  std::atomic<int64_t> written_by_children = 0;
  std::atomic<int64_t> read_from_pipes = 0;
  int64_t difference = 0;  // At the last look.
  std::set<std::pair<std::string, std::string>>* deeds = nullptr;
  // Once it has stopped. Never freed: it is in the image.
  std::string* kept = nullptr;
} g;

Identity IdentityOf(int fd) {
  struct stat st;
  if (fstat(fd, &st) != 0) return {};
  const bool null = S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
  const bool foreign = null && g.any_null && (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
  return {!foreign, st.st_dev,  st.st_ino,
          null,     st.st_mode, st.st_mtim.tv_sec * kSecond + st.st_mtim.tv_nsec};
}

void Append(Log* log, int stream, const void* bytes, size_t size) {
  const size_t all = sizeof(Piece) + size;
  if (all > kMostBytes || log->used.load() > kMostBytes - all) {
    log->deeds |= kTooMuch;
    return;
  }
  const uint32_t at = log->used.fetch_add(static_cast<uint32_t>(all));
  if (at > kMostBytes - all) {  // Another thread was first.
    log->used -= static_cast<uint32_t>(all);
    log->deeds |= kTooMuch;
    return;
  }
  const Piece piece = {static_cast<uint32_t>(stream), static_cast<uint32_t>(size)};
  std::memcpy(log->bytes + at + sizeof piece, bytes, size);
  std::memcpy(log->bytes + at, &piece, sizeof piece);
}

// Whether a write from now on would change when the file was last written to. The kernel stamps
// files by a clock that ticks, and terminals every eight seconds (drivers/tty/tty_io.c,
// tty_update_time), pipes not since Linux 6.17, sockets and devices never.
bool TellsOfWrites(const Identity& stream) {
  constexpr int64_t kTick = kSecond / 50;
  timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  const int64_t now_ns = time.tv_sec * kSecond + time.tv_nsec;
  if (S_ISCHR(stream.mode)) {
    const int64_t last = stream.modified_ns / kSecond;
    return !stream.null && ((last ^ time.tv_sec) & ~int64_t{7}) != 0;
  }
  return S_ISREG(stream.mode) && now_ns - stream.modified_ns > kTick;
}

// Whether a child process has written to a stream that it was given.
void LookForChildren(Log* log) {
  for (int stream = 1; stream < 3; ++stream) {
    const int64_t last_ns = log->last_write_ns[stream].load();
    if (last_ns == 0) continue;
    const Identity now = IdentityOf(stream);
    if (now.Is(g.streams[stream]) && now.modified_ns == last_ns) continue;
    log->last_write_ns[stream] = 0;
    log->deeds |= kByChild;
  }
}

void OnWriting() {
  if (Log* log = g.log.load()) LookForChildren(log);
}

// A child process may write on.
void NoteOwnWrite(Log* log) {
  for (int stream = 1; stream < 3; ++stream) {
    const int64_t last_ns = log->last_write_ns[stream].load();
    if (last_ns == 0) continue;
    const Identity now = IdentityOf(stream);
    if (S_ISCHR(now.mode) && now.modified_ns != last_ns) log->deeds |= kByChild;
    log->last_write_ns[stream] = now.modified_ns;
  }
}

void OnWritten(int fd, const void* bytes, size_t size, bool ours) {
  Log* log = g.log.load();
  if (log == nullptr) return;
  NoteOwnWrite(log);
  if (ours) return;
  const Identity now = IdentityOf(fd);
  if ((fd == 1 || fd == 2) && now.Is(g.streams[fd])) {
    Append(log, fd, bytes, size);
  } else if (now.Is(g.streams[1]) || now.Is(g.streams[2])) {
    log->deeds |= kToCopy;
  }
}

void OnExecuting(bool here) {
  Log* log = g.log.load();
  if (log == nullptr || (here && getpid() == g.process)) return;
  for (int fd = 1; fd < 3; ++fd) {
    const Identity now = IdentityOf(fd);
    for (int stream = 1; stream < 3; ++stream) {
      if (!now.Is(g.streams[stream])) continue;
      int64_t none = 0;
      if (!TellsOfWrites(now)) {
        log->deeds |= kMaybeByChild;
      } else {
        log->last_write_ns[stream].compare_exchange_strong(none, now.modified_ns);
      }
    }
  }
}

void OnRead(int fd, size_t size) {
  struct stat st;
  if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode)) {
    g.read_from_pipes += static_cast<int64_t>(size);
  }
}

// By all of this process and of the children that it has waited for (proc(5), /proc/pid/io); -1:
// the kernel does not count that.
int64_t BytesWritten() {
  char text[256];
  const int fd = open("/proc/self/io", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  const ssize_t size = read(fd, text, sizeof text - 1);
  close(fd);
  text[size < 0 ? 0 : size] = '\0';
  const char* at = std::strstr(text, "wchar: ");
  return at == nullptr ? -1 : std::atoll(at + std::strlen("wchar: "));
}

void OnReaped(int64_t before) {
  const int64_t now = BytesWritten();
  g.written_by_children += before < 0 || now < 0 ? 1 : now - before;
}

// Since the last look children have written as much as this process has read from them.
bool IsAllRead() {
  const int64_t before = g.difference;
  g.difference = g.written_by_children - g.read_from_pipes;
  return g.difference == before;
}

constexpr OutputListener kListener = {OnWriting, OnWritten,    OnExecuting,
                                      OnRead,    BytesWritten, OnReaped};

template <typename Function>
void ForEachPiece(std::string_view bytes, const Function& function) {
  while (bytes.size() >= sizeof(Piece)) {
    Piece piece;
    std::memcpy(&piece, bytes.data(), sizeof piece);
    bytes.remove_prefix(sizeof piece);
    if (piece.stream == 0 || piece.size > bytes.size()) return;
    function(static_cast<int>(piece.stream), bytes.substr(0, piece.size));
    bytes.remove_prefix(piece.size);
  }
}

bool IsDigit(char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; }

// `number` stands there, and no digit before it; nor behind it, if it is a `whole` one.
bool HasNumber(std::string_view text, std::string_view number, bool whole) {
  for (size_t at = text.find(number); at != text.npos; at = text.find(number, at + 1)) {
    const size_t end = at + number.size();
    const bool begins = at == 0 || !IsDigit(text[at - 1]);
    if (begins && (!whole || end == text.size() || !IsDigit(text[end]))) return true;
  }
  return false;
}

void MarkNull(int fd) {
  if (!g.streams[fd].null) return;
  g.any_null = true;
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || (flags & O_NONBLOCK) != 0) return;
  g.marked[fd] = fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

void UnmarkNull(int fd) {
  if (!g.marked[fd] || !IdentityOf(fd).Is(g.streams[fd])) return;
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
}

// Hours and minutes, here or in Greenwich, or the first digits of the seconds since 1970.
bool HasTime(std::string_view text, time_t from, time_t to) {
  constexpr time_t kMinute = 60, kMost = 120 * kMinute;
  if (HasNumber(text, std::to_string(to / 10'000), /*whole=*/false)) return true;
  if (to - from > kMost) from = to - kMost;
  for (time_t at = from; at < to + kMinute; at += kMinute) {
    for (const auto parts : {localtime_r, gmtime_r}) {
      tm time;
      char words[8];
      if (parts(&at, &time) == nullptr) continue;
      const size_t size = std::strftime(words, sizeof words, "%H:%M", &time);
      if (HasNumber(text, {words, size}, /*whole=*/true)) return true;
    }
  }
  return false;
}

// A process number is as good as chance, where it is not that of the first ones in a container.
bool HasOwnNumber(std::string_view text) {
  constexpr size_t kTellingDigits = 3;
  const std::string own = std::to_string(getpid());
  return own.size() >= kTellingDigits && HasNumber(text, own, /*whole=*/true);
}

void LookAtNew(Log* log, const std::string& when) {
  const uint32_t used = log->used.load();
  std::string text = g.pending->substr(g.pending_looked_at);
  g.pending_looked_at = g.pending->size();
  text += '\n';
  ForEachPiece({log->bytes + g.looked_at, used - g.looked_at},
               [&](int, std::string_view bytes) { text += bytes; });
  const time_t now = time(nullptr);
  if (HasOwnNumber(text)) g.deeds->insert({"printed its process number", when});
  if (HasTime(text, g.looked_when, now)) g.deeds->insert({"printed the time", when});
  g.looked_at = used;
  g.looked_when = now;
}

bool NamesWorkingDirectory() {
  const ReadRecordPause pause;
  char folder[PATH_MAX];
  if (getcwd(folder, sizeof folder) == nullptr || std::strlen(folder) < 2) return false;
  std::string text = *g.pending;
  ForEachPiece(*g.kept, [&](int, std::string_view bytes) { text += bytes; });
  return text.find(folder) != text.npos;
}

// Whether anything was ever put into the stream: glibc's _IO_CURRENTLY_PUTTING, which flushing
// leaves set.
bool WasWrittenTo(FILE* stream) {
  constexpr int kCurrentlyPutting = 0x800;
  return __fpending(stream) != 0 || (stream->_flags & kCurrentlyPutting) != 0;
}

}  // namespace

void StartOutputRecord() {
  for (int fd = 1; fd < 3; ++fd) g.streams[fd] = IdentityOf(fd);
  for (int fd = 1; fd < 3; ++fd) MarkNull(fd);
  g.process = getpid();
  g.deeds = new std::set<std::pair<std::string, std::string>>();
  g.pending = new std::string;
  g.looked_when = time(nullptr);
  void* memory =
      mmap(nullptr, sizeof(Log), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    g.deeds->insert({"had no memory for what is printed", ""});
    return;
  }
  g.log = static_cast<Log*>(memory);
  ListenToOutput(&kListener);
}

void StopOutputRecord() {
  ListenToOutput(nullptr);
  UnrepeatableOutput();
  for (int fd = 1; fd < 3; ++fd) UnmarkNull(fd);
  Log* log = g.log.exchange(nullptr);
  if (log == nullptr) return;
  g.kept = new std::string(log->bytes, log->used.load());
  if (NamesWorkingDirectory()) NoteQuestionOfStart(kWorkingDirectory);
  g.pending->clear();
  // No image can have shared memory; a thread that is about to tell finds some all the same.
  mmap(log, sizeof(Log), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

void NotePendingOutput(std::string text) {
  if (g.pending == nullptr) return;
  if (!text.starts_with(*g.pending)) g.pending_looked_at = 0;
  *g.pending = std::move(text);
}

std::set<std::pair<std::string, std::string>> UnrepeatableOutput() {
  if (g.deeds == nullptr) return {};
  if (Log* log = g.log.load()) {
    const std::string when = std::to_string(++g.looks);
    LookForChildren(log);
    uint32_t done = log->deeds.exchange(0);
    if (!IsAllRead() && (done & kMaybeByChild) != 0) done |= kByChild;
    for (const auto& [deed, words] : kWords) {
      if ((done & deed) != 0) g.deeds->insert({words, when});
    }
    LookAtNew(log, when);
  }
  auto deeds = *g.deeds;
  if (WasWrittenTo(stdout)) deeds.insert({"wrote to C's stdout", ""});
  if (WasWrittenTo(stderr)) deeds.insert({"wrote to C's stderr", ""});
  return deeds;
}

uint64_t OutputMark() {
  Log* log = g.log.load();
  const uint64_t used = log == nullptr ? 0 : log->used.load();
  const uint64_t pending = g.pending == nullptr ? 0 : std::hash<std::string>()(*g.pending);
  return pending + (used << 32) + (g.deeds == nullptr ? 0 : g.deeds->size() << 2) +
         (WasWrittenTo(stdout) ? 2 : 0) + (WasWrittenTo(stderr) ? 1 : 0);
}

bool HasPrinted(int stream) {
  bool printed = false;
  if (g.kept == nullptr) return false;
  ForEachPiece(*g.kept, [&](int of, std::string_view) { printed = printed || of == stream; });
  return printed;
}

bool RepeatOutput() {
  bool whole = true;
  ForEachPiece(g.kept == nullptr ? std::string_view() : *g.kept,
               [&](int stream, std::string_view bytes) {
                 while (whole && !bytes.empty()) {
                   const ssize_t n = write(stream, bytes.data(), bytes.size());
                   if (n < 0 && errno == EINTR) continue;
                   whole = n > 0;
                   if (whole) bytes.remove_prefix(static_cast<size_t>(n));
                 }
               });
  return whole;
}

}  // namespace pylaunch::engine
