#ifndef PYLAUNCH_LAUNCHER_COMMAND_LINE_COMPLETION_H_
#define PYLAUNCH_LAUNCHER_COMMAND_LINE_COMPLETION_H_

#include <span>
#include <string>
#include <string_view>

#include "launcher/command_line/command_words.h"

namespace pylaunch {

// What makes Tab complete pylaunch's options in `shell`, "bash", "zsh" or "fish": a script that the
// shell sources, or finds in its own folder of completions. Empty: no other shell is known.
//
// It offers `options` and their values up to where Python's options end, and from there on files:
// the program's words are the program's. Python's own options are offered, too.
std::string CompletionScript(std::string_view shell, std::span<const OwnOption> options);

// What an option does, for those who see it alone.
std::string_view Meaning(const OwnOption& option);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_COMMAND_LINE_COMPLETION_H_
