#ifndef PYLAUNCH_LAUNCHER_ENGINE_ENVIRONMENT_ENVIRON_PREFIXES_H_
#define PYLAUNCH_LAUNCHER_ENGINE_ENVIRONMENT_ENVIRON_PREFIXES_H_

#include <string>

namespace pylaunch::engine {

struct EnvironReader {
  std::string prefix;  // It uses only variables whose names begin so; empty: unknown.
  std::string place;   // In words, for who wonders, if unknown.
};

// Who goes through os.environ: called in the step of an iteration over it, by the Python code that
// runs on this thread. Known are the functions of environ_prefixes.txt, if their source is still
// the one that was read. REQUIRES: the GIL.
EnvironReader FindEnvironReader();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_ENVIRONMENT_ENVIRON_PREFIXES_H_
