#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_SPLIT_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_SPLIT_H_

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <vector>

namespace pylaunch::engine {

// What stands in `text` between separators, less what is empty. `separators`: a character, or a
// text of which each character is one. No streams: the first one of a process sets up a locale, and
// every start comes through here.
template <typename Separators>
std::vector<std::string_view> Split(std::string_view text, Separators separators) {
  std::vector<std::string_view> parts;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find_first_of(separators, at), text.size());
    if (end > at) parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_SPLIT_H_
