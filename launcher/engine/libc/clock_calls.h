#ifndef PYLAUNCH_LAUNCHER_ENGINE_LIBC_CLOCK_CALLS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_LIBC_CLOCK_CALLS_H_

#include <cstdint>

namespace pylaunch::engine {

// The engine stands before clock_gettime(2), from which CPython, C++'s steady_clock and Rust's
// Instant have what they call the time. Not seen: system calls made by hand (Go), and the
// processor's own counter (rdtsc).

// After a call that has given the time of a clock that begins with the boot, in nanoseconds. On any
// thread, in signal handlers and in children of vfork(2), too: may neither lock nor allocate. Not
// for the engine's calls. errno is kept.
using ClockListener = void (*)(int64_t ns);

// Null: nobody.
void ListenToClocks(ClockListener listener);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_LIBC_CLOCK_CALLS_H_
