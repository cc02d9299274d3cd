#include "launcher/contract/image_trial.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <climits>
#include <cstring>
#include <optional>
#include <utility>

#include "cache/close_range.h"
#include "cache/descriptor.h"
#include "image/format.h"
#include "image/image_files.h"
#include "launcher/contract/handoff.h"

namespace pylaunch {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kPatience{20};
constexpr int kStepMs = 20;
constexpr size_t kMaxSaid = 1 << 16;
constexpr size_t kMaxWords = 1000;

// What else this process has open is none of the other's.
void CloseAllBut(int first, int second) {
  if (first > second) std::swap(first, second);
  const auto close = [](int begin, int end) {
    if (begin < end)
      cache::CloseRange(static_cast<unsigned>(begin), static_cast<unsigned>(end - 1));
  };
  close(STDERR_FILENO + 1, first);
  close(first + 1, second);
  close(second + 1, INT_MAX);
}

// In the child. The environment is only what the restorer must be told: the builder's is gone.
[[noreturn]] void Become(const std::string& restorer, int handoff, const Candidate& image,
                         int words) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  dup2(words, STDERR_FILENO);
  CloseAllBut(handoff, image.fd);
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

// As waitpid gives it; nothing: the process goes on and on. It is the process that counts: what
// it has started may hold the pipe for longer.
std::optional<int> Await(pid_t pid, int words, std::string* said) {
  const Clock::time_point end = Clock::now() + kPatience;
  int status = 0;
  while (waitpid(pid, &status, WNOHANG) == 0) {
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

}  // namespace

std::string TryImage(const std::string& restorer, const Candidate& image) {
  cache::Pipe order(0), words(O_CLOEXEC | O_NONBLOCK);
  // Where standard streams are closed, what was opened since stands in their place.
  const cache::Descriptor pages(fcntl(image.fd, F_DUPFD, STDERR_FILENO + 1));
  const cache::Descriptor handoff_fd(fcntl(order.reading().get(), F_DUPFD, STDERR_FILENO + 1));
  Handoff handoff;
  handoff.image_trial = true;
  const std::string bytes = handoff.Serialize();  // Little enough to lie in a pipe.
  const bool told = pages.ok() && handoff_fd.ok() && words.writing().ok() &&
                    write(order.writing().get(), bytes.data(), bytes.size()) ==
                        static_cast<ssize_t>(bytes.size());
  order.writing().Close();
  // Where it is ignored, nobody would be told how the child ended.
  const sighandler_t before = signal(SIGCHLD, SIG_DFL);
  const pid_t pid = told ? _Fork() : -1;
  if (pid == 0) {
    Become(restorer, handoff_fd.get(), {pages.get(), image.inodes, image.moved},
           words.writing().get());
  }
  words.writing().Close();
  std::string said;
  const std::optional<int> status = pid < 0 ? 0 : Await(pid, words.reading().get(), &said);
  if (!status) {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
  signal(SIGCHLD, before);
  if (pid < 0) return "";
  const std::string why = status ? Blame(*status, said) : "it does not get to its program";
  return why.empty() ? "" : std::string(image::kNotRestored) + why;
}

}  // namespace pylaunch
