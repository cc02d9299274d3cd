#ifndef PYLAUNCH_LAUNCHER_PYTHON_HOME_INQUIRY_H_
#define PYLAUNCH_LAUNCHER_PYTHON_HOME_INQUIRY_H_

#include <optional>
#include <string>

#include "launcher/python_home/files.h"
#include "launcher/python_home/python_home.h"

namespace pylaunch::home {

// Says what `candidate`, with the stamp `stamp`, is: by its name, or from its record, or by asking
// it, whose answer is then recorded. `self`: this pylaunch, which no candidate may lead back to.
//
// True: all of `home` but `why` is set. False: it is no Python; `cause` says why.
bool Identify(const HomeQuery& query, const std::optional<FileState>& self,
              const std::string& candidate, const Stamp& stamp, PythonHome* home,
              std::string* cause);

}  // namespace pylaunch::home

#endif  // PYLAUNCH_LAUNCHER_PYTHON_HOME_INQUIRY_H_
