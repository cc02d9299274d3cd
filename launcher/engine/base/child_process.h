#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_CHILD_PROCESS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_CHILD_PROCESS_H_

#include <string>
#include <string_view>
#include <vector>

namespace pylaunch::engine {

// The descriptor on which a child of ours finds what it is to do.
constexpr int kJobFd = 3;

struct ChildProcess {
  std::string program;
  std::vector<std::string> arguments;  // argv, the first too.
  char* const* environment;
  bool wait = true;  // For its end; else nobody ever reaps it.
  // In a session of its own before RunChild returns: no terminal's Ctrl-C or hang-up is meant for
  // it.
  bool session = false;
};

// Starts a child of ours with `job` in a memfd on kJobFd, an empty signal mask and default signal
// handling, whatever the program has set; a child that is waited for raises no SIGCHLD that the
// program could see. Returns an empty string or one line on why it could not be started; `status`:
// as waitpid gives it, 0 if not waited for.
std::string RunChild(const ChildProcess& child, std::string_view job, int* status);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_CHILD_PROCESS_H_
