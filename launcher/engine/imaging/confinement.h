#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMAGING_CONFINEMENT_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMAGING_CONFINEMENT_H_

namespace pylaunch::engine {

// From here on this process, which has one thread, can change nothing but its own memory, and what
// its standard streams and `fd` lead to: all other system calls fail with EPERM (seccomp(2)). It
// can open files for reading. False: it cannot be confined.
bool ConfineToMemory(int fd);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMAGING_CONFINEMENT_H_
