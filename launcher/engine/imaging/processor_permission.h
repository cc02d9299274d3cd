#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMAGING_PROCESSOR_PERMISSION_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMAGING_PROCESSOR_PERMISSION_H_

#include <cstdint>

// Parts of the processor's state that a process may use only once it has asked for them: AMX's
// tiles. Without, their instructions end in SIGILL. Forked children have the permission, execve
// takes it away (Documentation/arch/x86/xstate.rst).

namespace pylaunch::engine {

// Of these components a mask of those that this process may use; 0 where the kernel does not tell
// (Linux 5.16).
uint64_t PermittedState();

// Asks for what of `wanted` is not permitted now. Call before sigaltstack(2) has given a thread a
// stack that would be too small for it. False: refused.
bool RequestState(uint64_t wanted);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMAGING_PROCESSOR_PERMISSION_H_
