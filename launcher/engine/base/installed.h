#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_INSTALLED_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_INSTALLED_H_

#include <cstddef>
#include <string_view>

namespace pylaunch::engine {

// True for a file that pip or Debian has installed: site-packages or dist-packages is a folder on
// its path, from `at` on.
inline bool IsInSitePackages(std::string_view path, size_t at = 0) {
  return path.find("/site-packages/", at) != path.npos ||
         path.find("/dist-packages/", at) != path.npos;
}

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_INSTALLED_H_
