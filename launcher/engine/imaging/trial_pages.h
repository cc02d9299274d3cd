#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMAGING_TRIAL_PAGES_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMAGING_TRIAL_PAGES_H_

#include "launcher/contract/handoff.h"

namespace pylaunch::engine {

// What a process does that was restored to try an image (launcher/contract/image_trial.h): it tells
// which pages it needed. To see which its end needs, it goes on where the program would begin, runs
// `pass` for a program, and ends as any other. From there on it is confined (confinement.h), so
// nothing that a library does at exit is done to anybody.

// Where the program would begin: returns if the process shall go on.
void PassTrial(const Handoff& handoff);
// Later, with the archive open, which its end closes.
void GoOnWithTrial();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMAGING_TRIAL_PAGES_H_
