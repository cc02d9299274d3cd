#ifndef PYLAUNCH_LAUNCHER_PYTHON_HOME_SHIMS_H_
#define PYLAUNCH_LAUNCHER_PYTHON_HOME_SHIMS_H_

#include <functional>
#include <string>

namespace pylaunch::home {

// A digest of all that the answer of a shim (pyenv's, asdf's) depends on: the working directory,
// variables, and the files that name versions (python_home.h lists them). `getenv`: an empty string
// is an unset variable.
std::string ShimInputs(const std::function<std::string(const char*)>& getenv,
                       const std::string& shim);

}  // namespace pylaunch::home

#endif  // PYLAUNCH_LAUNCHER_PYTHON_HOME_SHIMS_H_
