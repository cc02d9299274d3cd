#ifndef PYLAUNCH_LAUNCHER_INIT_ENDING_H_
#define PYLAUNCH_LAUNCHER_INIT_ENDING_H_

#include <sys/wait.h>

#include <string>

namespace pylaunch {

// How a process ended, as wait(2) tells it.
struct Ending {
  int code = 0;    // Of exit(2).
  int signal = 0;  // 0: it was not killed by one.
  // `status`: of a process that has ended. Needs no C library.
  static Ending Of(int status) {
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 0,
            WIFSIGNALED(status) ? WTERMSIG(status) : 0};
  }
  bool good() const { return code == 0 && signal == 0; }
  // As a shell and srun(1) put it.
  int exit_code() const { return signal != 0 ? 128 + signal : code; }
  // "exit code 3", "killed by signal 9 (SIGKILL)".
  std::string InWords() const;
};

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_INIT_ENDING_H_
