#ifndef PYLAUNCH_LAUNCHER_WORKERS_WORKER_H_
#define PYLAUNCH_LAUNCHER_WORKERS_WORKER_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "launcher/command_line/worker_options.h"
#include "launcher/init/ending.h"

namespace pylaunch {

// One worker of several, over all its attempts. Times are CLOCK_MONOTONIC in nanoseconds.
class Worker {
 public:
  enum class State { kWaiting, kRunning, kDone };

  State state = State::kWaiting;
  int64_t due_ns = 0;  // kWaiting: when it is to start.
  pid_t pid = 0;       // kRunning.
  // It reads our standard input, in our group, the terminal's foreground; else it leads its own.
  bool has_stdin = false;
  int attempt = 0;  // The next one's number, or the running one's.
  int64_t started_ns = 0;
  double seconds = 0;      // Of the last attempt, once it has ended.
  Ending ending;           // Likewise.
  bool ran = false;        // At least once.
  bool stopped = false;    // It was told to end because another one failed.
  std::string last_lines;  // The end of what it wrote to stderr.
  std::string log_folder;  // Of the running or last attempt; empty: there is none.

  // Keeps the last lines of what went to stderr.
  void Remember(std::string_view bytes);
  // Decides by `policy` what comes after `ending`. `stopping`: nothing starts any more.
  void Next(const RestartPolicy& policy, bool stopping, int64_t now_ns);

 private:
  int failures_in_a_row_ = 0;
};

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_WORKERS_WORKER_H_
