#include "launcher/engine/record/output_record.h"

#include <linux/kcmp.h>
#include <stdio_ext.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <atomic>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <string_view>
#include <vector>

#include "launcher/engine/libc/output_calls.h"

namespace pylaunch::engine {
namespace {

constexpr uint32_t kMostBytes = 64 << 10;

enum Deed : uint32_t { kTooMuch = 1, kToCopy = 2, kByChild = 4 };
constexpr std::pair<Deed, const char*> kWords[] = {
    {kTooMuch, "printed more than 64 KiB"},
    {kToCopy, "wrote to a copy of standard output or error"},
    {kByChild, "gave standard output or error to a child process"}};

// One piece of what was written, and the bytes behind it.
struct Piece {
  uint32_t stream;  // 0: who was to fill it has been killed.
  uint32_t size;
};

// Shared with forked children: nothing here needs a lock.
struct Log {
  std::atomic<uint32_t> used;
  std::atomic<uint32_t> deeds;
  char bytes[kMostBytes];
};

struct Identity {
  bool open = false;
  dev_t device = 0;
  ino_t inode = 0;
  bool null = false;  // /dev/null, which many open for themselves.

  bool Is(const Identity& other) const {
    return open && other.open && device == other.device && inode == other.inode;
  }
};

// The C library's functions tell us with nothing of ours.
constinit struct {
  std::atomic<Log*> log = nullptr;
  Identity streams[3];
  pid_t process = 0;
  uint32_t looked_at = 0;  // How much of it.
  time_t looked_when = 0;
  size_t looks = 0;
  std::set<std::pair<std::string, std::string>>* deeds = nullptr;
  // Once it has stopped. Never freed: it is in the image.
  std::string* kept = nullptr;
} g;

Identity IdentityOf(int fd) {
  struct stat st;
  if (fstat(fd, &st) != 0) return {};
  return {true, st.st_dev, st.st_ino, S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3)};
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

void OnWritten(int fd, const void* bytes, size_t size) {
  Log* log = g.log.load();
  if (log == nullptr) return;
  const Identity now = IdentityOf(fd);
  if ((fd == 1 || fd == 2) && now.Is(g.streams[fd])) {
    Append(log, fd, bytes, size);
  } else if (!now.null && (now.Is(g.streams[1]) || now.Is(g.streams[2]))) {
    log->deeds |= kToCopy;
  }
}

// Whether that child's descriptor is the stream; of two that lead to /dev/null the kernel tells.
bool IsGiven(int fd, bool here) {
  const Identity now = IdentityOf(fd);
  if (!now.Is(g.streams[1]) && !now.Is(g.streams[2])) return false;
  if (!now.null || !here) return true;
  const pid_t self = getpid();
  return syscall(SYS_kcmp, self, g.process, KCMP_FILE, fd, 1) <= 0 ||
         syscall(SYS_kcmp, self, g.process, KCMP_FILE, fd, 2) <= 0;
}

void OnExecuting(bool here) {
  Log* log = g.log.load();
  if (here && getpid() == g.process) return;
  if (log != nullptr && (IsGiven(1, here) || IsGiven(2, here))) log->deeds |= kByChild;
}

constexpr OutputListener kListener = {OnWritten, OnExecuting};

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
  std::string text;
  ForEachPiece({log->bytes + g.looked_at, used - g.looked_at},
               [&](int, std::string_view bytes) { text += bytes; });
  const time_t now = time(nullptr);
  if (HasOwnNumber(text)) g.deeds->insert({"printed its process number", when});
  if (HasTime(text, g.looked_when, now)) g.deeds->insert({"printed the time", when});
  g.looked_at = used;
  g.looked_when = now;
}

// Whether anything was ever put into the stream: glibc's _IO_CURRENTLY_PUTTING (libio/libio.h),
// which flushing leaves set.
bool WasWrittenTo(FILE* stream) {
  constexpr int kCurrentlyPutting = 0x800;
  return __fpending(stream) != 0 || (stream->_flags & kCurrentlyPutting) != 0;
}

}  // namespace

void StartOutputRecord() {
  for (int fd = 1; fd < 3; ++fd) g.streams[fd] = IdentityOf(fd);
  g.process = getpid();
  g.deeds = new std::set<std::pair<std::string, std::string>>();
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
  Log* log = g.log.exchange(nullptr);
  if (log == nullptr) return;
  LookAtNew(log, std::to_string(++g.looks));
  g.kept = new std::string(log->bytes, log->used.load());
  // No image can have shared memory; a thread that is about to tell finds some all the same.
  mmap(log, sizeof(Log), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

std::set<std::pair<std::string, std::string>> UnrepeatableOutput() {
  if (g.deeds == nullptr) return {};
  if (Log* log = g.log.load()) {
    const std::string when = std::to_string(++g.looks);
    const uint32_t done = log->deeds.exchange(0);
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
  return (used << 32) + (g.deeds == nullptr ? 0 : g.deeds->size() << 2) +
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
