#ifndef PYLAUNCH_LAUNCHER_COMMAND_LINE_PRELOAD_FILE_H_
#define PYLAUNCH_LAUNCHER_COMMAND_LINE_PRELOAD_FILE_H_

#include <string_view>

#include "absl/status/status.h"
#include "launcher/contract/preload_plan.h"

namespace pylaunch {

// True if an argument of --preload names a file: it begins with '@' (which is not part of the
// name), contains '/' or ends in ".txt". Else it is one line of the grammar.
bool IsPreloadFile(std::string_view argument);

// Parses `text` (UTF-8, lines end in LF or CRLF, a byte order mark is skipped) and appends to
// `plan`, all or, on an error, nothing. `import a, b` makes one entry for each. The grammar of a
// line:
//   line    = ( directive | { setting } [ entry ] ) [ comment ]
//   directive = "use" ( "image" | "exit" ( "fast" | "full" ) )
//   entry   = { setting | "optional" } what
//   what    = "from" MODULE "import" ( "*" | names | "(" names [ "," ] ")" )
//           | "import" MODULE [ alias ] { "," MODULE [ alias ] }
//           | "call" MODULE ":" NAME | MODULE ":" NAME { "," NAME } | MODULE
//   names   = NAME [ alias ] { "," NAME [ alias ] }
//   alias   = "as" NAME, which means nothing
//   setting = VARIABLE ( "=" | "?=" ) ( quoted | { any byte but a blank } )
//   quoted  = "'" { any byte but "'" } "'" | '"' { any byte but '"' } '"'
//   comment = "#" to the end of the line; begins a line or follows a blank
// INVALID_ARGUMENT: the message is a complete report in the house shape without the leading
// "pylaunch: error: ": location and what is wrong, the line, a caret under the column, and a hint:
//   configs.txt:3:19: expected 'import' after the module's name
//       from transformers imprt AutoConfig
//                         ^
//     hint:  from MODULE import NAME[, NAME...]
// A directive that contradicts one of `plan` is an error, too, with the other's place as its cause.
absl::Status ParsePreload(std::string_view text, std::string_view source, PreloadPlan* plan);

// Handles one argument of --preload: reads the file or parses the line. NOT_FOUND: no such file.
absl::Status AddPreloadArgument(std::string_view argument, std::string_view inline_source,
                                PreloadPlan* plan);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_COMMAND_LINE_PRELOAD_FILE_H_
