#ifndef PYLAUNCH_LAUNCHER_WORKERS_STATUS_LINE_H_
#define PYLAUNCH_LAUNCHER_WORKERS_STATUS_LINE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/workers/worker.h"

namespace pylaunch {

// One line at the bottom of a terminal that tells what the workers do. It does nothing where `fd`
// is no terminal. Times are CLOCK_MONOTONIC in nanoseconds.
class StatusLine {
 public:
  explicit StatusLine(int fd);
  // When it is to be drawn next; INT64_MAX: never.
  int64_t due_ns() const { return due_ns_; }
  // REQUIRES: nothing waits to be written to the terminal in the midst of a line.
  void Show(const std::vector<Worker>& workers, int64_t now_ns);
  // Before anything else is written there.
  void Hide();

 private:
  int fd_;
  int64_t due_ns_;
  bool shown_ = false;
};

// "7 running, 1 done, 0 failed, 2 restarts, 1.2 GiB": what all have now. Memory is what the running
// ones own (RssAnon of /proc/PID/status, proc(5)); none without /proc.
std::string StatusText(const std::vector<Worker>& workers);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_WORKERS_STATUS_LINE_H_
