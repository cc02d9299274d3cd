#ifndef PYLAUNCH_LAUNCHER_ENGINE_SHIELD_THREAD_ACTIVITY_H_
#define PYLAUNCH_LAUNCHER_ENGINE_SHIELD_THREAD_ACTIVITY_H_

#include <sys/types.h>
#include <time.h>

#include <cstdint>

namespace pylaunch::engine {

// A thread of this process, as another thread of it can watch it. Plain data.
struct ThreadId {
  pid_t tid = 0;
  clockid_t cpu_clock = 0;

  // The calling thread's.
  static ThreadId OfThisThread();
};

enum class Activity {
  kGone,     // The thread has ended.
  kWorking,  // Running, or in the kernel for the sake of a file (a cold dlopen is work).
  kWaiting,  // Asleep until someone else does something: a lock, a pipe, a child, a timer.
  // LookForEnd() alone tells these from kWaiting:
  kNapping,    // Asleep for a time.
  kElsewhere,  // Asleep until another process does something: a child, the other end of a pipe.
};

// What `thread` does at this moment, from /proc where that can be read. A thread that waits for the
// GIL shows as kWaiting: only CpuNanoseconds() over some time tells it from a blocked one, since
// it wakes up every switch interval. Takes no lock, needs no GIL.
Activity Look(const ThreadId& thread);
// The same, but kWaiting only for what a thread of this process may have to end, or where that
// cannot be told.
Activity LookForEnd(const ThreadId& thread);
bool IsGone(const ThreadId& thread);

// CPU time that `thread` has used; 0 if it has ended.
int64_t CpuNanoseconds(const ThreadId& thread);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_SHIELD_THREAD_ACTIVITY_H_
