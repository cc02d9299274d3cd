#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_CLOCK_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_CLOCK_H_

#include <time.h>

#include <cstdint>

#include "cache/stat_proof.h"

namespace pylaunch::engine {

// `clock` in nanoseconds. Both clocks below go through the vDSO: no system call.
inline int64_t ClockNs(clockid_t clock) {
  timespec ts;
  clock_gettime(clock, &ts);
  return cache::NanosecondsOf(ts);
}

// The clock that file systems stamp with.
inline int64_t RealtimeNs() { return ClockNs(CLOCK_REALTIME); }
// The clock for durations.
inline int64_t MonotonicNs() { return ClockNs(CLOCK_MONOTONIC); }

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_CLOCK_H_
