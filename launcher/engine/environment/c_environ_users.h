#ifndef PYLAUNCH_LAUNCHER_ENGINE_ENVIRONMENT_C_ENVIRON_USERS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_ENVIRONMENT_C_ENVIRON_USERS_H_

#include <string>

namespace pylaunch::engine {

// The path of a loaded object that uses C's variable `environ` (environ(7)), so that it may have
// read the environment without a call that could be seen, or an empty string. CPython, the C
// library and the engine do not count, nor do those for which `known` vouches, the path of a
// list (known_list.h). Go libraries, which find the environment behind their arguments, are not
// recognised.
std::string EnvironUser(const std::string& known);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_ENVIRONMENT_C_ENVIRON_USERS_H_
