#include "launcher/python_home/probe.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <thread>
#include <utility>

#include "cache/descriptor.h"
#include "launcher/contract/text.h"

namespace pylaunch::home {
namespace {

using Clock = std::chrono::steady_clock;

// Runs in Python 2.7 too, imports nothing that the working directory could shadow (only modules
// built into the interpreter), and writes bytes: a path may be in any encoding.
constexpr char kProbeProgram[] = R"(
import sys, posix
try: exe = posix.readlink("/proc/self/exe")
except OSError: exe = ""
f = ["pylaunch-answer", "%d.%d.%d" % sys.version_info[:3],
     sys.implementation.name if hasattr(sys, "implementation") else
     "pypy" if "__pypy__" in sys.builtin_module_names else "cpython",
     getattr(sys, "abiflags", ""), sys.executable or "",
     getattr(sys, "_base_executable", "") or "", exe, "end"]
s = "\0".join(f)
b = s if str is bytes else s.encode(sys.getfilesystemencoding(), "surrogateescape")
getattr(sys.stdout, "buffer", sys.stdout).write(b)
sys.stdout.flush()
)";

std::optional<Answer> ParseAnswer(std::string_view output) {
  // A shim may print before it starts Python.
  const size_t begin = output.find(std::string_view("pylaunch-answer\0", 16));
  if (begin == output.npos) return std::nullopt;
  output.remove_prefix(begin);
  std::vector<std::string> fields;
  for (size_t at = 0; at <= output.size(); at += fields.back().size() + 1) {
    fields.emplace_back(output.substr(at, output.find('\0', at) - at));
  }
  if (fields.size() != 8 || fields[7] != "end") return std::nullopt;
  return Answer{fields[1], fields[2], fields[3], {fields[4], fields[5], fields[6]}};
}

// Runs a candidate once and kills it, and what it started, when it takes too long.
class Prober {
 public:
  Prober(const std::string& program, std::chrono::milliseconds timeout)
      : program_(program), deadline_(Clock::now() + timeout) {}

  // nullopt: see cause(). Isolated, for from 3.13 on CPython itself imports `linecache` for a
  // command, by a sys.path with the working directory in front. Python 2.7 knows no -I and ends
  // with 2; there the program's own care equals it.
  std::optional<Answer> Run() {
    std::optional<Answer> answer = RunWith("-IS");
    if (!answer.has_value() && may_not_know_option_) answer = RunWith("-EsS");
    return answer;
  }

  const std::string& cause() const { return cause_; }

 private:
  std::optional<Answer> RunWith(const char* options) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return Fail(std::strerror(errno));
    cache::Descriptor output(ends[0]);
    cache::Descriptor input(ends[1]);
    if (const int error = Spawn(options, input.get()); error != 0) {
      return Fail(Cat("cannot be run: ", std::strerror(error)));
    }
    input.Close();
    std::optional<Answer> answer = Listen(output.get());
    output.Close();  // Who still writes gets SIGPIPE and does not block.
    const std::string ending = WaitForEnd();
    may_not_know_option_ = ending == kExited + "2" || ending == kEnded;
    return answer.has_value() ? answer : Fail(Cat("did not say that it is a Python: ", ending));
  }

  std::nullopt_t Fail(std::string cause) {
    cause_ = std::move(cause);
    return std::nullopt;
  }

  static std::vector<char*> Environment() {
    static char probing[] = "PYLAUNCH_PROBING=1";  // exec takes no constants.
    std::vector<char*> environment;
    for (char** setting = environ; setting != nullptr && *setting != nullptr; ++setting) {
      if (!std::string_view(*setting).starts_with("LD_PRELOAD=")) environment.push_back(*setting);
    }
    environment.push_back(probing);
    environment.push_back(nullptr);
    return environment;
  }

  int Spawn(const char* options, int output) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    // First the pipe: where ours came without standard streams, it may be descriptor 0 or 2.
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    const char* arguments[] = {program_.c_str(), options, "-c", kProbeProgram, nullptr};
    const int error = posix_spawn(&pid_, program_.c_str(), &actions, &attributes,
                                  const_cast<char**>(arguments), Environment().data());
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return error;
  }

  int MillisecondsLeft() const {
    const auto left = deadline_ - Clock::now();
    return static_cast<int>(
        std::max<int64_t>(0, std::chrono::ceil<std::chrono::milliseconds>(left).count()));
  }

  // Until the answer is whole: a daemon that a wrapper started may hold the pipe for ever.
  std::optional<Answer> Listen(int output) const {
    constexpr size_t kMaxOutput = 1 << 16;
    std::string text;
    std::optional<Answer> answer;
    while (!answer.has_value() && text.size() < kMaxOutput) {
      pollfd ready = {output, POLLIN, 0};
      const int polled = poll(&ready, 1, MillisecondsLeft());
      if (polled == 0) break;
      char buffer[4096];
      const ssize_t got = polled < 0 ? -1 : read(output, buffer, sizeof buffer);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) break;
      text.append(buffer, static_cast<size_t>(got));
      answer = ParseAnswer(text);
    }
    return answer;
  }

  // Leaves no child behind; says how it ended.
  std::string WaitForEnd() const {
    constexpr std::chrono::microseconds kLongestNap(10'000);
    int status = 0;
    pid_t ended = 0;
    for (std::chrono::microseconds nap(100);; nap = std::min(nap * 2, kLongestNap)) {
      ended = waitpid(pid_, &status, WNOHANG);
      if (ended != 0 && !(ended < 0 && errno == EINTR)) break;
      if (MillisecondsLeft() == 0) {
        kill(-pid_, SIGKILL);
        while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
        }
        return "it took too long";
      }
      std::this_thread::sleep_for(nap);
    }
    if (ended < 0) return kEnded;  // SIGCHLD is ignored: nobody knows how.
    if (WIFSIGNALED(status)) return Cat("killed by signal ", std::to_string(WTERMSIG(status)));
    return Cat(kExited, std::to_string(WEXITSTATUS(status)));
  }

  inline static const std::string kEnded = "it ended", kExited = "exit code ";

  const std::string program_;
  const Clock::time_point deadline_;
  pid_t pid_ = -1;
  bool may_not_know_option_ = false;
  std::string cause_;
};

}  // namespace

std::optional<Answer> Probe(const std::string& program, std::chrono::milliseconds timeout,
                            std::string* cause) {
  Prober prober(program, timeout);
  std::optional<Answer> answer = prober.Run();
  *cause = prober.cause();
  return answer;
}

}  // namespace pylaunch::home
