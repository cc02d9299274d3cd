#ifndef PYLAUNCH_LAUNCHER_COMMAND_LINE_COMMAND_WORDS_H_
#define PYLAUNCH_LAUNCHER_COMMAND_LINE_COMMAND_WORDS_H_

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace pylaunch {

// A long option of ours.
struct OwnOption {
  const char* name;
  const char* value;  // What --help calls the value; null: a switch.
  const char* twin;   // Environment variable; null: none.
  const char* help;
  bool of_workers = false;        // It goes with --workers.
  const char* choices = nullptr;  // All values there are, or the usual ones, with blanks between.
  // What it does by itself, where `help` is of two options or empty; null: `help`.
  const char* alone = nullptr;
};

// nullptr: none of `options` has that name.
const OwnOption* FindOwn(std::span<const OwnOption> options, std::string_view name);

// A command line, its words in two parts.
struct CommandWords {
  std::vector<std::string> python;  // argv[0] and everything that is not ours, in order.
  size_t program = 0;               // Where in `python` Python's options end.
  bool ignore_environment = false;  // -E or -I is among them.
  std::vector<std::string> own;     // "--name" or "--name=value".
};

// Parts `argv` as CPython's getopt would read it, so that not one word after the program is looked
// at. INVALID_ARGUMENT: as Problem() makes it; options.h tells what for.
absl::StatusOr<CommandWords> PartWords(const std::vector<std::string>& argv,
                                       std::span<const OwnOption> options);

// What is wrong with a command line, in the house shape without "pylaunch: error: " in front.
absl::Status Problem(std::string_view what, std::string_view hint);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_COMMAND_LINE_COMMAND_WORDS_H_
