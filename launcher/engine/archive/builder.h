#ifndef PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_BUILDER_H_
#define PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_BUILDER_H_

#include <string>

#include "launcher/engine/archive/archive_session.h"

namespace pylaunch::engine {

// --build: runs `script` (launcher/python/builder/__main__.py) as the program would run, with a
// dict named `archive` in its namespace, which holds
//   path, json, preloaded: the archive's path, and what the command line says;
//   is_current(path, mtime_ns, size, ctime_ns, inode) -> bool: the archive has just this;
//   compress(code) -> frame;
//   add(path, mtime_ns, size, ctime_ns, inode, read_at_ns, frame, raw_size);
//   list_folder(path): keep its names;
//   seal() -> bool: write it all; false: that failed, and was told.
// Returns the exit status.
int Build(const std::string& script, ArchiveSession* session, bool json, bool preloaded);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_ARCHIVE_BUILDER_H_
