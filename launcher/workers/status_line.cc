#include "launcher/workers/status_line.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace pylaunch {
namespace {

constexpr int64_t kNever = INT64_MAX;
constexpr int64_t kPeriodNs = 500'000'000;

uint64_t OwnedKiB(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/status"));
  for (std::string word; file >> word;) {
    uint64_t kib = 0;
    if (word == "RssAnon:" && file >> kib) return kib;
  }
  return 0;
}

size_t Columns(int fd) {
  constexpr size_t kUsual = 80;
  winsize size = {};
  return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kUsual;
}

}  // namespace

std::string StatusText(const std::vector<Worker>& workers) {
  int running = 0, waiting = 0, done = 0, failed = 0, restarts = 0;
  uint64_t kib = 0;
  for (const Worker& worker : workers) {
    restarts += worker.attempt;
    running += worker.state == Worker::State::kRunning;
    waiting += worker.state == Worker::State::kWaiting;
    if (worker.state == Worker::State::kRunning) kib += OwnedKiB(worker.pid);
    if (worker.state == Worker::State::kDone) ++(worker.ending.good() ? done : failed);
  }
  std::string text = absl::StrFormat("%d running, %d done, %d failed", running, done, failed);
  if (waiting > 0) absl::StrAppendFormat(&text, ", %d waiting", waiting);
  if (restarts > 0)
    absl::StrAppendFormat(&text, ", %d restart%s", restarts, restarts == 1 ? "" : "s");
  constexpr uint64_t kMiB = 1 << 10, kGiB = 1 << 20;
  if (kib >= kGiB) absl::StrAppendFormat(&text, ", %.1f GiB", static_cast<double>(kib) / kGiB);
  if (kib > 0 && kib < kGiB) absl::StrAppendFormat(&text, ", %d MiB", kib / kMiB);
  return text;
}

StatusLine::StatusLine(int fd) : fd_(fd), due_ns_(isatty(fd) ? 0 : kNever) {}

void StatusLine::Show(const std::vector<Worker>& workers, int64_t now_ns) {
  if (due_ns_ == kNever || now_ns < due_ns_) return;
  due_ns_ = now_ns + kPeriodNs;
  const std::string text =
      absl::StrCat("\r\x1b[K", StatusText(workers).substr(0, Columns(fd_) - 1));
  shown_ = write(fd_, text.data(), text.size()) > 0;
}

void StatusLine::Hide() {
  if (!shown_) return;
  shown_ = write(fd_, "\r\x1b[K", 4) < 0;
}

}  // namespace pylaunch
