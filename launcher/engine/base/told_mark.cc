#include "launcher/engine/base/told_mark.h"

#include <sys/prctl.h>

namespace pylaunch::engine {
namespace {

// The mark is the last three digits of the main thread's timer slack, in nanoseconds: of all that
// children inherit, also through execve and with an emptied environment
// (PR_SET_TIMERSLACK(2const)), it is what no program looks at. It allows timers to be late by 50
// microseconds and 0.9 instead of 50.
constexpr unsigned long kUnit = 1000, kMark = 863;

// The process has one timer slack: what was set, and what it was before; 0: nothing.
constinit struct { unsigned long marked = 0, unmarked = 0; } g;

}  // namespace

bool MarkTold() {
  int slack = prctl(PR_GET_TIMERSLACK);
  if (slack <= 0) return true;  // A real-time process has none.
  unsigned long now = static_cast<unsigned long>(slack);
  if (now % kUnit == kMark) return false;
  g.unmarked = now;
  g.marked = now / kUnit * kUnit + kMark;
  prctl(PR_SET_TIMERSLACK, g.marked);
  return true;
}

int TimerSlackWithoutMark() {
  const int slack = prctl(PR_GET_TIMERSLACK);
  const bool ours = slack > 0 && static_cast<unsigned long>(slack) == g.marked;
  return ours ? static_cast<int>(g.unmarked) : slack;
}

}  // namespace pylaunch::engine
