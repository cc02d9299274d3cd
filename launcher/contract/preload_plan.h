#ifndef PYLAUNCH_LAUNCHER_CONTRACT_PRELOAD_PLAN_H_
#define PYLAUNCH_LAUNCHER_CONTRACT_PRELOAD_PLAN_H_

#include <optional>
#include <string>
#include <vector>

// What to preload, as data: preload_file makes it, handoff carries it through execve, the engine's
// preloader runs it.

namespace pylaunch {

// Where an entry stands, for messages: "configs.txt:4:1". Lines and columns count from 1, columns
// in code points. An inline argument's source is "--preload" (or "PYLAUNCH_PRELOAD"), line 1.
struct Location {
  std::string source;
  int line = 1;
  int column = 1;
  std::string ToString() const {
    return source + ":" + std::to_string(line) + ":" + std::to_string(column);
  }
};

// `NAME=value` sets always, `NAME?=value` only where the variable is not set yet.
struct EnvSetting {
  std::string name;
  std::string value;
  bool only_if_unset = false;
};

struct PreloadEntry {
  enum class Kind {
    kImport,  // `import a.b`, bare `a.b`: load module.
    kFrom,    // `from a.b import X, Y`, `a.b:X`: load module, then take each name.
    kCall,    // `call a.b:f`: load module, take the one name, call it without arguments.
  };
  Kind kind = Kind::kImport;
  Location location;  // Of the entry's first word after environment settings and `optional`.
  std::string text;   // The line as written, without comment and surrounding blanks; for messages.
  bool optional = false;
  bool lazy = false;               // `lazy import a.b`: what it imports lazily itself stays so.
  std::vector<EnvSetting> env;     // In force for this entry only.
  std::string module;              // Dotted, every part an identifier.
  std::vector<std::string> names;  // {"*"} for `from a.b import *`.
};

// What preload files say of the start as a whole. Absent: nothing.
struct Directives {
  std::optional<Location> image;  // Of the first `use image`.
  std::optional<Location> exit;   // Of the first `use exit fast` or `use exit full`...
  bool fast_exit = false;         // ...and which it is.
  // Without places, as they would be written.
  std::vector<std::string> Lines() const {
    std::vector<std::string> lines;
    if (image) lines.push_back("use image");
    if (exit) lines.push_back(fast_exit ? "use exit fast" : "use exit full");
    return lines;
  }
};

// What --preload asked for, files and inline arguments together, in order. Environment lines that
// stand alone apply to the process from its start, wherever they stand.
struct PreloadPlan {
  std::vector<EnvSetting> environment;
  std::vector<PreloadEntry> entries;
  Directives directives;  // The front end's: no part of what an image is made of.
  bool empty() const {
    return environment.empty() && entries.empty() && !directives.image && !directives.exit;
  }
};

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_CONTRACT_PRELOAD_PLAN_H_
