#ifndef PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_STATE_WATCH_H_
#define PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_STATE_WATCH_H_

#include <string>

#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine {

// What preload entries set that the program may want to set itself: multiprocessing's start method,
// logging's root handlers, and the others that the doctor's state.py looks at. For --explain.
// Signals' handlers are left out, since to ask for them counts as a question of preloading's.
// REQUIRES: the GIL.
class StateWatch {
 public:
  // `doctor`: its folder; empty, or without the file: nothing is ever told.
  explicit StateWatch(const std::string& doctor);

  // In words, what has been set since the last call, or since the watch was made; an empty string:
  // nothing.
  std::string Changes();

 private:
  PyRef Look() const;

  PyRef functions_;
  PyRef before_;
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_STATE_WATCH_H_
