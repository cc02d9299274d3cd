#ifndef PYLAUNCH_CACHE_NOTE_H_
#define PYLAUNCH_CACHE_NOTE_H_

#include <string>

#include "cache/file_env.h"

namespace pylaunch::cache {

// What a writer that works when nobody listens any more has to say, kept for the next start in
// `<archive>.note`. Best effort, all of it.

// Replaces what note there is. `what`: one line.
void LeaveNote(FileEnv& env, const std::string& archive, const std::string& what);
// The note, which is then gone; empty: none, or one that another user could have written.
std::string TakeNote(FileEnv& env, const std::string& archive);

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_NOTE_H_
