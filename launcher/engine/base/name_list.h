#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_NAME_LIST_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_NAME_LIST_H_

#include <fstream>
#include <functional>
#include <set>
#include <string>

namespace pylaunch::engine {

// Names that can be looked up by std::string_view.
using NameList = std::set<std::string, std::less<>>;

// One name a line; lines that begin with '#' are comments. Empty without a readable file.
inline NameList ReadNameList(const std::string& path) {
  NameList names;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line[0] != '#') names.insert(line);
  }
  return names;
}

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_NAME_LIST_H_
