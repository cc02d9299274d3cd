#ifndef PYLAUNCH_LAUNCHER_ENGINE_ENVIRONMENT_ENVIRONMENT_WATCH_H_
#define PYLAUNCH_LAUNCHER_ENGINE_ENVIRONMENT_ENVIRONMENT_WATCH_H_

#include "launcher/contract/preload_plan.h"

namespace pylaunch::engine {

// From now on, and in this process only, one line on stderr tells of each variable that the program
// sets to another value than preloading has read (PreloadReads()) or left it with, or removes:
// where it does so, who read it, and the line for the preload file. Costs nothing but in setenv()
// and its kind.
//
// The program is what runs from outside the standard library and the folders of installed packages.
// What a library sets, it would set without preloading, too, after it was imported, and nobody at
// the keyboard can change it; so it counts only where a library merely does what the program says
// (`load_dotenv()`): when it is no module's body, and the variable's name stands neither in the
// library's code nor in what that code's names stand for. What C code sets, and os.environ.clear()
// (of mock.patch.dict), is not told.
//
// What the program sets, a record of it has, too (journal.h).
//
// Call once preloading is over, and again in a process that goes on from an image of this one.
// `plan` must live as long as the process. REQUIRES: the GIL.
void WatchEnvironment(const PreloadPlan& plan, bool explain);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_ENVIRONMENT_ENVIRONMENT_WATCH_H_
