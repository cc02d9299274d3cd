#ifndef PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_DOCTOR_H_
#define PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_DOCTOR_H_

#include <string>

#include "launcher/contract/preload_plan.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/preload/failure.h"

namespace pylaunch::engine {

// The namespace of a source of the doctor's, which has been run in it; null with an exception set
// or without one. It is compiled here and not imported, so that sys.path has no say.
PyRef RunDoctorFile(const std::string& file);

// Asks the doctor (the Python sources in `folder`) why `entry` did not load, and puts its words for
// cause and hint in front of those of `failure`, if it knows better. Whatever goes wrong meanwhile
// leaves `failure` as it is. REQUIRES: the interpreter will not run the program any more.
void AskDoctor(const std::string& folder, const PreloadEntry& entry, Failure* failure);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_PRELOAD_DOCTOR_H_
