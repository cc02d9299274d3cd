#ifndef PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_FINDER_H_
#define PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_FINDER_H_

#include <Python.h>

#include "launcher/engine/archive/archive_session.h"

namespace pylaunch::engine {

// The meta path finder (PEP 302, PEP 451). It stands directly before PathFinder in sys.meta_path
// and gives, for modules that lie in ordinary folders, the very spec PathFinder would give: same
// origin, same loader class, built from the same FileFinder found in sys.path_importer_cache, with
// folders and code answered by the archive where stamps prove them. Whatever is not ordinary (zip
// files, path hooks of others, importlib patched by the program, nothing found)
// is left to PathFinder by answering None.

// Creates the finder over `session` (which must outlive the interpreter) and inserts it. REQUIRES:
// PathFinder is in sys.meta_path, sys.path and sys.path_hooks are set. `optimize`:
// sys.flags.optimize. False with an exception set on failure.
bool InstallFinder(ArchiveSession* session, int optimize);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_FINDER_H_
