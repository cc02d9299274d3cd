#ifndef PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_PURE_FUNCTIONS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_PURE_FUNCTIONS_H_

#include <Python.h>

#include "launcher/engine/archive/archive_session.h"

// Some libraries read thousands of their own files at every import to compute the same result. For
// the functions listed in pure_functions.txt, when they are wrapped by functools.lru_cache (their
// author has declared equal arguments to mean equal results), the result is kept in the archive
// with the stamps of all files under the folder they read, and is given while every stamp holds.
// No object that the program sees is replaced: the wrapped function gets another vectorcall slot.
// The function runs as it is whenever anything that it uses is not what it was when its module was
// loaded, when it is traced or profiled, and where hashes are not randomised (the order of sets
// would show).

namespace pylaunch::engine {

// Looks at modules that are loaded from now on (load_hook.h). `session` must outlive the
// interpreter. False with an exception set on failure.
bool InstallPureFunctions(ArchiveSession* session, bool explain);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_PURE_FUNCTIONS_H_
