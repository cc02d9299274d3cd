#ifndef PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_CODE_SOURCE_H_
#define PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_CODE_SOURCE_H_

#include <Python.h>

#include "launcher/engine/archive/archive_session.h"
#include "launcher/engine/archive/importlib_types.h"

namespace pylaunch::engine {

// Code for SourceFileLoaders, from the archive. A loader must be a plain `SourceFileLoader` to
// inspect, pickle and `==`; so instead of a subclass, it carries an instance attribute `get_code`
// that `exec_module` (importlib._bootstrap_external._LoaderBasics) finds before the class's, from
// the moment when the import system begins to load its module (load_hook.h) until its first call. A
// loader that is only looked at is as stock makes it.

// REQUIRES: called once, in the main interpreter. `session` and `types` must outlive the
// interpreter. False with an exception set on failure.
bool InitCodeSource(ArchiveSession* session, const ImportlibTypes* types);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_CODE_SOURCE_H_
