#ifndef PYLAUNCH_LAUNCHER_ENGINE_CODE_SOURCE_H_
#define PYLAUNCH_LAUNCHER_ENGINE_CODE_SOURCE_H_

#include <Python.h>

#include <string>

#include "launcher/engine/archive_session.h"
#include "launcher/engine/importlib_types.h"

namespace pylaunch::engine {

// Code for one SourceFileLoader, from the archive. A loader must be a plain `SourceFileLoader` to
// inspect, pickle and `==`; so instead of a subclass, the loader of a fresh spec carries an
// instance attribute `get_code` that `exec_module` (importlib._bootstrap_external._LoaderBasics)
// finds before the class's. At its first call it takes itself off again.

// Makes the class. `session` and `types` must outlive the interpreter. False with an exception set
// on failure.
bool InitCodeSource(ArchiveSession* session, const ImportlibTypes* types);

// Gives `loader`, a new SourceFileLoader for `path`, its code source. False with an exception set
// on failure.
bool AttachCodeSource(PyObject* loader, const std::string& path);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_CODE_SOURCE_H_
