#ifndef PYLAUNCH_LAUNCHER_WORKERS_GPUS_H_
#define PYLAUNCH_LAUNCHER_WORKERS_GPUS_H_

#include <string>
#include <vector>

namespace pylaunch {

// The GPUs that CUDA would show to a process, as CUDA_VISIBLE_DEVICES names them: those of the
// variable (`visible`, null if it is not set) up to its first bad one, as CUDA reads it (CUDA C++
// Programming Guide, "CUDA Environment Variables"), else by number those that the driver lists in
// `folder`.
std::vector<std::string> VisibleGpus(const char* visible,
                                     const std::string& folder = "/proc/driver/nvidia/gpus");

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_WORKERS_GPUS_H_
