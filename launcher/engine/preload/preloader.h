#ifndef PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_PRELOADER_H_
#define PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_PRELOADER_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "launcher/contract/preload_plan.h"
#include "launcher/engine/start/interpreter.h"

namespace pylaunch::engine {

// Loads the entries of `plan` that `which` names, in its order, on this thread, in the surroundings
// the program will have: sys.path[0], sys.argv and
// __main__.__file__ are as at its first line, and are taken back afterwards because Py_RunMain sets
// them itself. Automatic garbage collection is held back meanwhile. Returns an exit code if the
// launch must stop: a required entry that did not load has been told on stderr (1), with what the
// doctor in the folder `doctor` (empty: none) says to it, or the user interrupted. REQUIRES: the
// interpreter is started, no other thread of Python exists. `before` (may be empty) is called
// before each entry with its index.
std::optional<int> Preload(const PreloadPlan& plan, const std::vector<size_t>& which,
                           const Program& program, const std::string& doctor, bool explain,
                           const std::function<void(size_t)>& before = {});

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_PRELOADER_H_
