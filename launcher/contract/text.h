#ifndef PYLAUNCH_LAUNCHER_CONTRACT_TEXT_H_
#define PYLAUNCH_LAUNCHER_CONTRACT_TEXT_H_

#include <string>
#include <string_view>

namespace pylaunch {

// Strings and literals, one after the other. absl::StrCat does not take std::string_view here:
// Debian's Abseil is built with a string_view of its own.
template <typename... Parts>
std::string Cat(const Parts&... parts) {
  std::string text;
  (text.append(std::string_view(parts)), ...);
  return text;
}

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_CONTRACT_TEXT_H_
