#ifndef PYLAUNCH_LAUNCHER_ENGINE_RECORD_CLOCK_READS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_RECORD_CLOCK_READS_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace pylaunch::engine {

// What this process was told of the time since the boot while it was recorded (clock_calls.h). A
// module that keeps such a value finds it in the future, after a reboot or on another host.

// Before Python starts.
void StartClockReads();

// Ends it.
struct ClockReads {
  std::span<const int64_t> values;  // Nanoseconds.
  bool all = true;                  // There were not too many.
};
ClockReads StopClockReads();

// Later: `values` are gone, so that no image holds them.
void ForgetClockReads();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_RECORD_CLOCK_READS_H_
