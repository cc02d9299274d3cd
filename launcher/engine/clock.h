#ifndef PYLAUNCH_LAUNCHER_ENGINE_CLOCK_H_
#define PYLAUNCH_LAUNCHER_ENGINE_CLOCK_H_

#include <time.h>

#include <cstdint>

namespace pylaunch::engine {

// CLOCK_REALTIME, the clock that file systems stamp with, in nanoseconds. Through the vDSO: no
// system call.
inline int64_t RealtimeNs() {
  timespec ts;
  clock_gettime(CLOCK_REALTIME, &ts);
  return int64_t{ts.tv_sec} * 1'000'000'000 + ts.tv_nsec;
}

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_CLOCK_H_
