#ifndef PYLAUNCH_LAUNCHER_ENGINE_SHIELD_BIRTHS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_SHIELD_BIRTHS_H_

namespace pylaunch::engine {

// Wraps the functions of `_thread` by which threads are started, so that the import lock knows
// which thread was started inside which import, and those of `posix` by which processes are forked,
// so that no import of another thread is under way in a child. REQUIRES: neither `threading` nor
// `os` has been imported (they copy these functions). False with an exception set.
bool WatchBirths();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_SHIELD_BIRTHS_H_
