#ifndef PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_DOCTOR_H_
#define PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_DOCTOR_H_

#include <string>

#include "launcher/contract/preload_plan.h"
#include "launcher/engine/preload/failure.h"

namespace pylaunch::engine {

// Asks the doctor (the Python sources in `folder`) why `entry` did not load, and puts its words for
// cause and hint in front of those of `failure`, if it knows better. Whatever goes wrong meanwhile
// leaves `failure` as it is. REQUIRES: the interpreter will not run the program any more.
void AskDoctor(const std::string& folder, const PreloadEntry& entry, Failure* failure);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_DOCTOR_H_
