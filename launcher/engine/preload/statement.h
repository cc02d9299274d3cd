#ifndef PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_STATEMENT_H_
#define PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_STATEMENT_H_

#include <string>

#include "launcher/contract/preload_plan.h"

namespace pylaunch::engine {

// The statement that CPython itself runs for an entry; the parser has proved every part an
// identifier.
inline std::string Statement(const PreloadEntry& entry) {
  if (entry.kind == PreloadEntry::Kind::kImport) return "import " + entry.module;
  std::string statement = "from " + entry.module + " import ";
  for (size_t i = 0; i < entry.names.size(); ++i) statement += (i > 0 ? ", " : "") + entry.names[i];
  return statement;
}

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_STATEMENT_H_
