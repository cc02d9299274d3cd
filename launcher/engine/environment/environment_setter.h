#ifndef PYLAUNCH_LAUNCHER_ENGINE_ENVIRONMENT_ENVIRONMENT_SETTER_H_
#define PYLAUNCH_LAUNCHER_ENGINE_ENVIRONMENT_ENVIRONMENT_SETTER_H_

#include <optional>
#include <string>

namespace pylaunch::engine {

struct EnvironmentSetter {
  std::string file;  // As a traceback names it, but without the working folder in front.
  int line = 0;
  bool if_unset = false;  // By setdefault().
};

// The line of the program that is changing the variable `name` right now, on this thread, by way of
// os.putenv() or os.unsetenv(); nothing where that is not the program's doing
// (environment_watch.h). Keeps an exception that is set. REQUIRES: the GIL.
std::optional<EnvironmentSetter> FindEnvironmentSetter(const std::string& name);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_ENVIRONMENT_ENVIRONMENT_SETTER_H_
