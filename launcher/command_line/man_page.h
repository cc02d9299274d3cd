#ifndef PYLAUNCH_LAUNCHER_COMMAND_LINE_MAN_PAGE_H_
#define PYLAUNCH_LAUNCHER_COMMAND_LINE_MAN_PAGE_H_

#include <span>
#include <string>
#include <string_view>

#include "launcher/command_line/command_words.h"

namespace pylaunch {

// pylaunch(1) in the macros of man(7), with each of `options` and its variable. The page carries no
// date, so that one source makes one page.
std::string ManPage(std::string_view version, std::span<const OwnOption> options);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_COMMAND_LINE_MAN_PAGE_H_
