#ifndef PYLAUNCH_LAUNCHER_ENGINE_EXIT_EXIT_H_
#define PYLAUNCH_LAUNCHER_ENGINE_EXIT_EXIT_H_

namespace pylaunch::engine {

// --exit fast, the default: CPython ends the program by its own Py_FinalizeEx, every step of it and
// in its order, but with what was preloaded taken out of its hands: not collected, not cleared, not
// freed. What it then no longer does for objects of the program that preloaded ones hold, and for
// files,
// __del__ and generators among the preloaded ones, is done by us at the place where it would have
// been. docs/exit.md says what is kept and what remains.
//
// Called after preloading and before the program's first line. When the time comes, anything that
// this has not been proved for (another interpreter, gc.callbacks, gc's debugging flags, nobody's
// SIGINT) gets the full teardown.
void ArmFastExit(bool explain);

// For a process of which an image is made: hides what was preloaded from the collector for as long
// as the program runs, too, because a collection would copy every page that holds an object. Call
// after ArmFastExit(), in the capturing process.
void HidePreloaded();

// In a process restored from the image, before the program: what resuming has made is not the
// program's either. `full`: the full teardown is asked for; then what was hidden comes back first.
void HideResumed(bool explain, bool full);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_EXIT_EXIT_H_
