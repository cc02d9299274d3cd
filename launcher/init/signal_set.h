#ifndef PYLAUNCH_LAUNCHER_INIT_SIGNAL_SET_H_
#define PYLAUNCH_LAUNCHER_INIT_SIGNAL_SET_H_

#include <cstdint>

namespace pylaunch {

// The kernel's sigset_t: 64 signals, the C library's own two among them.
using SignalSet = uint64_t;

inline constexpr SignalSet kAllSignals = ~SignalSet{0};

constexpr SignalSet SetOf(int signal) { return SignalSet{1} << (signal - 1); }

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_INIT_SIGNAL_SET_H_
