#include "launcher/engine/image_trial.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>

#include "cache/descriptor.h"
#include "image/format.h"
#include "image/key.h"
#include "launcher/handoff.h"

namespace pylaunch::engine {
namespace {

constexpr int kPatienceMs = 60'000;
constexpr size_t kMaxWords = 1000;
constexpr char kUntried[] = "no process to try it: ";

struct Pipe {
  Pipe() {
    if (pipe(ends) != 0) ends[0] = ends[1] = -1;
  }
  ~Pipe() { Close(0), Close(1); }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  void Close(int end) {
    if (ends[end] >= 0) close(ends[end]);
    ends[end] = -1;
  }
  int ends[2];
};

// In the child. The environment is only what the restorer must be told: the builder's is gone.
[[noreturn]] void Become(const std::string& restorer, int handoff, int image, int words) {
  dup2(words, 2);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // No Python to go on with (format.h, kMaxAttempts): the restorer ends.
  std::string variable = std::string(kHandoffVariable) + "=" + std::to_string(handoff) + ":" +
                         std::to_string(image) + ":" + std::to_string(getpid()) + ":0:";
  char python[] = "python", option[] = "-c", command[] = "pass";
  char* const argv[] = {python, option, command, nullptr};
  char* const environment[] = {variable.data(), nullptr};
  execve(restorer.c_str(), argv, environment);
  _exit(127);
}

int64_t NowMs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

// What is written to the other end of `fd` until nobody has that open; false: somebody still has.
bool ReadWords(int fd, std::string* words) {
  const int64_t end_ms = NowMs() + kPatienceMs;
  for (int64_t left; (left = end_ms - NowMs()) > 0;) {
    pollfd wait = {fd, POLLIN, 0};
    if (poll(&wait, 1, static_cast<int>(left)) <= 0) continue;
    char buffer[4096];
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n == 0) return true;
    if (n > 0) words->append(buffer, static_cast<size_t>(n));
  }
  return false;
}

// The last line: libraries may have said something before.
std::string LastLine(std::string words) {
  while (words.ends_with('\n')) words.pop_back();
  return words.substr(words.rfind('\n') + 1).substr(0, kMaxWords);
}

std::string Refusal(const std::string& why) { return std::string(image::kNotRestored) + why; }

std::string Verdict(int status, const std::string& words) {
  if (WIFSIGNALED(status)) {
    const char* signal = strsignal(WTERMSIG(status));
    // Not its own doing: memory is short.
    if (WTERMSIG(status) == SIGKILL) return std::string(kUntried) + signal;
    return Refusal(std::string("it dies of ") + signal);
  }
  if (WEXITSTATUS(status) == 0) return "";
  const std::string line = LastLine(words);
  if (!line.empty()) return Refusal(line);
  if (WEXITSTATUS(status) == image::kCannotRun) return Refusal("its memory cannot be mapped");
  return Refusal("exit code " + std::to_string(WEXITSTATUS(status)));
}

}  // namespace

std::string TryImage(const std::string& restorer, const std::string& path) {
  const cache::Descriptor image(open(path.c_str(), O_RDONLY));
  Pipe order, words;  // What the order says is little enough to lie in a pipe.
  Handoff handoff;
  handoff.image_trial = true;
  const std::string bytes = handoff.Serialize();
  const bool told =
      image.ok() && order.ends[1] >= 0 && words.ends[1] >= 0 &&
      write(order.ends[1], bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
  order.Close(1);
  const pid_t pid = told ? _Fork() : -1;
  if (pid < 0) return std::string(kUntried) + std::strerror(errno);
  if (pid == 0) {
    words.Close(0);
    Become(restorer, order.ends[0], image.get(), words.ends[1]);
  }
  words.Close(1);
  std::string said;
  const bool ended = ReadWords(words.ends[0], &said);
  if (!ended) kill(pid, SIGKILL);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return ended ? Verdict(status, said) : Refusal("it hangs");
}

}  // namespace pylaunch::engine
