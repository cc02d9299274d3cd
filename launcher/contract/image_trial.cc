#include "launcher/contract/image_trial.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <climits>
#include <cstring>
#include <optional>

#include "cache/close_range.h"
#include "cache/descriptor.h"
#include "image/format.h"
#include "image/image_files.h"
#include "launcher/contract/handoff.h"

namespace pylaunch {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kPatience{20}, kEndPatience{2};
constexpr int kStepMs = 20;
constexpr size_t kMaxSaid = 1 << 16;
constexpr size_t kMaxWords = 1000;

// What else this process has open is none of the other's.
void CloseAllBut(std::array<int, 3> kept) {
  std::sort(kept.begin(), kept.end());
  int begin = STDERR_FILENO + 1;
  const auto close_to = [&](int end) {
    if (begin < end)
      cache::CloseRange(static_cast<unsigned>(begin), static_cast<unsigned>(end - 1));
  };
  for (const int fd : kept) {
    close_to(fd);
    begin = std::max(begin, fd + 1);
  }
  close_to(INT_MAX);
}

// In the child. The environment is only what the restorer must be told: the builder's is gone.
[[noreturn]] void Become(const std::string& restorer, int handoff, int pages,
                         const Candidate& image, int words) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  // Else two MiB are mapped where one page is needed.
  if (pages >= 0) prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
  dup2(words, STDERR_FILENO);
  CloseAllBut({handoff, pages, image.fd});
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  std::string variable = std::string(kHandoffVariable) + "=";
  PutImageHandoff(handoff, image.fd, getpid(), image.moved, image.inodes.c_str(), /*python=*/"",
                  [&variable](char c) { variable += c; });
  char python[] = "python", option[] = "-c", command[] = "pass";
  char* const argv[] = {python, option, command, nullptr};
  char* const environment[] = {variable.data(), nullptr};
  execve(restorer.c_str(), argv, environment);
  _exit(image::kCannotRun);
}

// What lies in the pipe; does not wait for more.
void Drain(int fd, std::string* said) {
  char buffer[4096];
  ssize_t n;
  while ((n = read(fd, buffer, sizeof buffer)) > 0) {
    if (said->size() < kMaxSaid) said->append(buffer, static_cast<size_t>(n));
  }
}

bool HasWritten(int fd) {
  struct stat st;
  return fstat(fd, &st) == 0 && st.st_size > 0;
}

// As waitpid gives it; nothing: the process goes on and on. It is the process that counts: what
// it has started may hold the pipe for longer.
std::optional<int> Await(pid_t pid, int words, int pages, std::string* said) {
  Clock::time_point end = Clock::now() + kPatience;
  int status = 0;
  for (bool passed = false; waitpid(pid, &status, WNOHANG) == 0;) {
    if (!passed && HasWritten(pages)) {
      passed = true;
      end = Clock::now() + kEndPatience;
    }
    if (Clock::now() >= end) return std::nullopt;
    pollfd wait = {words, POLLIN, 0};
    poll(&wait, 1, kStepMs);
    if ((wait.revents & POLLHUP) != 0) usleep(1000);  // It ends, or has closed it.
    Drain(words, said);
  }
  Drain(words, said);
  return status;
}

// The last line: libraries may have said something before.
std::string LastLine(std::string words) {
  while (words.ends_with('\n')) words.pop_back();
  return words.substr(words.rfind('\n') + 1).substr(0, kMaxWords);
}

// Whether a process does that to itself.
bool IsOwnFault(int signal) {
  for (const int own : {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGSYS, SIGTRAP}) {
    if (signal == own) return true;
  }
  return false;
}

// Why the process did not get there; empty if it did, or if it is not to blame.
std::string Blame(int status, const std::string& said) {
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    return IsOwnFault(signal) ? std::string("it dies of ") + strsignal(signal) : "";
  }
  const int code = WEXITSTATUS(status);
  if (code == kTrialPassed) return "";
  const std::string line = LastLine(said);
  if (!line.empty()) return line;
  if (code == image::kCannotRun) return "its memory cannot be mapped";
  return "it ends with exit code " + std::to_string(code);
}

// A whole list in the memory file `fd`, or nothing.
std::string ListAt(int fd, off_t at) {
  std::string bytes(image::kMostListBytes, '\0');
  const ssize_t n = pread(fd, bytes.data(), bytes.size(), at);
  uint32_t size = 0;
  if (n < static_cast<ssize_t>(sizeof size)) return "";
  std::memcpy(&size, bytes.data(), sizeof size);
  bytes = bytes.substr(sizeof size, size);
  return image::PageList::Parse(bytes) ? bytes : "";
}

Handoff OrderFor(const Handoff& order, const std::string& path, TrialPages pages, int fd) {
  Handoff handoff;
  handoff.image_trial = true;
  handoff.trial_image = path;
  handoff.trial_pages = fd;
  handoff.trial_ends = pages == TrialPages::kOfWhole;
  handoff.fast_exit = true;
  handoff.python = order.python;
  handoff.library = order.library;
  handoff.cache_folder = order.cache_folder;
  handoff.cache_readonly = true;
  return handoff;
}

// Where standard streams are closed, what was opened since stands in their place. Behind them may
// come what the process opens again.
cache::Descriptor OutOfTheWay(int fd) {
  constexpr int kFirst = 64;
  return cache::Descriptor(fd < 0 ? -1 : fcntl(fd, F_DUPFD, kFirst));
}

}  // namespace

TrialResult TryImage(const Handoff& order, const Candidate& image, const std::string& path,
                     TrialPages pages) {
  const std::string restorer = order.LibraryFile(image::kRestorer);
  cache::Pipe told(0), words(O_CLOEXEC | O_NONBLOCK);
  const cache::Descriptor image_fd = OutOfTheWay(image.fd);
  const cache::Descriptor handoff_fd = OutOfTheWay(told.reading().get());
  const cache::Descriptor memory(pages == TrialPages::kNone ? -1 : memfd_create("pylaunch", 0));
  const cache::Descriptor pages_fd = OutOfTheWay(memory.get());
  // Little enough to lie in a pipe.
  const std::string bytes = OrderFor(order, path, pages, pages_fd.get()).Serialize();
  const bool ready =
      image_fd.ok() && handoff_fd.ok() && words.writing().ok() &&
      write(told.writing().get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
  told.writing().Close();
  // Where it is ignored, nobody would be told how the child ended.
  const sighandler_t before = signal(SIGCHLD, SIG_DFL);
  const pid_t pid = ready ? _Fork() : -1;
  if (pid == 0) {
    Become(restorer, handoff_fd.get(), pages_fd.get(), {image_fd.get(), image.inodes, image.moved},
           words.writing().get());
  }
  words.writing().Close();
  std::string said;
  const std::optional<int> status =
      pid < 0 ? 0 : Await(pid, words.reading().get(), pages_fd.get(), &said);
  if (!status) {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
  signal(SIGCHLD, before);
  if (pid < 0) return {};
  if (HasWritten(pages_fd.get())) {
    const std::string whole = ListAt(pages_fd.get(), kSecondList);
    return {"", whole.empty() ? ListAt(pages_fd.get(), kFirstList) : whole};
  }
  const std::string why = status ? Blame(*status, said) : "it does not get to its program";
  return {why.empty() ? "" : std::string(image::kNotRestored) + why, ""};
}

}  // namespace pylaunch
