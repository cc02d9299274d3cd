#include "launcher/engine/base/told_mark.h"

#include <sys/prctl.h>

namespace pylaunch::engine {
namespace {

// The mark is the last three digits of the main thread's timer slack, in nanoseconds: of all that
// children inherit, also through execve and with an emptied environment
// (PR_SET_TIMERSLACK(2const)), it is what no program looks at. It allows timers to be late by 50
// microseconds and 0.9 instead of 50.
constexpr unsigned long kUnit = 1000, kMark = 863;

// What this process has set, and what it was before; 0: nothing.
unsigned long g_marked = 0, g_unmarked = 0;

}  // namespace

bool MarkTold() {
  int slack = prctl(PR_GET_TIMERSLACK);
  if (slack <= 0) return true;  // A real-time process has none.
  unsigned long now = static_cast<unsigned long>(slack);
  if (now % kUnit == kMark) return false;
  g_unmarked = now;
  g_marked = now / kUnit * kUnit + kMark;
  prctl(PR_SET_TIMERSLACK, g_marked);
  return true;
}

int TimerSlackWithoutMark() {
  const int slack = prctl(PR_GET_TIMERSLACK);
  const bool ours = slack > 0 && static_cast<unsigned long>(slack) == g_marked;
  return ours ? static_cast<int>(g_unmarked) : slack;
}

}  // namespace pylaunch::engine
