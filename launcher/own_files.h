#ifndef PYLAUNCH_LAUNCHER_OWN_FILES_H_
#define PYLAUNCH_LAUNCHER_OWN_FILES_H_

#include <string>

namespace pylaunch {

// Where pylaunch and what was installed with it lie.
struct OwnFiles {
  std::string self;     // The running pylaunch, absolute, links resolved; empty: nobody knows.
  std::string library;  // The folder of engines, sealer and scripts; empty: see `cause`.
  std::string cause;    // Why there is no library, and what to do, for messages.
  std::string hint;
};

// By /proc/self/exe; where there is no /proc, by what execve(2) was told (AT_EXECFN) and by
// `argv0`, which shells look up on PATH: of these the first that has a library beside it. Hard
// links and copies of the program have none, symbolic links lead to it.
OwnFiles FindOwnFiles(const char* argv0);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_OWN_FILES_H_
