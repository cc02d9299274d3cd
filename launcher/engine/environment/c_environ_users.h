#ifndef PYLAUNCH_LAUNCHER_ENGINE_ENVIRONMENT_C_ENVIRON_USERS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_ENVIRONMENT_C_ENVIRON_USERS_H_

#include <string>
#include <vector>

namespace pylaunch::engine {

// What loaded objects that use C's variable `environ` (environ(7)) may have read of the environment
// without a call that could be seen.
struct EnvironUse {
  std::string unknown;                // The path of one that may have read anything, or empty.
  std::vector<std::string> prefixes;  // Of variables' names, which others read.
};
// CPython, the C library and the engine do not count, nor do those for which `known` vouches, the
// path of a list (known_list.h), but with what it says they read. Go libraries, which find the
// environment behind their arguments, are not recognised.
EnvironUse UseOfEnviron(const std::string& known);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_ENVIRONMENT_C_ENVIRON_USERS_H_
