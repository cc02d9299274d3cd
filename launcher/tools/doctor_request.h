#ifndef PYLAUNCH_LAUNCHER_TOOLS_DOCTOR_REQUEST_H_
#define PYLAUNCH_LAUNCHER_TOOLS_DOCTOR_REQUEST_H_

#include <string>
#include <vector>

#include "launcher/command_line/options.h"
#include "launcher/contract/preload_plan.h"
#include "launcher/python_home/python_home.h"

// How --doctor is started: the Python that is examined runs launcher/python/doctor/__main__.py,
// with its own options as given, a descriptor to read the request from, and the program as it would
// have got it.

namespace pylaunch {

// JSON. Bytes that are no UTF-8 are replaced.
std::string DoctorRequest(const Options& options, const PythonHome& home, const PreloadPlan& plan);

std::vector<std::string> DoctorArguments(const Options& options, const PythonHome& home,
                                         const std::string& script, int request_fd);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_TOOLS_DOCTOR_REQUEST_H_
