#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_TOLD_MARK_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_TOLD_MARK_H_

namespace pylaunch::engine {

// True once a process tree: for the first process that asks, and for those that do not descend from
// it. Later true, if the mark cannot be set.
bool MarkTold();

// The calling thread's timer slack in nanoseconds (prctl(2)), as it would be had this process set
// no mark.
int TimerSlackWithoutMark();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_TOLD_MARK_H_
