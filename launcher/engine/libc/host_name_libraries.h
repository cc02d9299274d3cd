#ifndef PYLAUNCH_LAUNCHER_ENGINE_LIBC_HOST_NAME_LIBRARIES_H_
#define PYLAUNCH_LAUNCHER_ENGINE_LIBC_HOST_NAME_LIBRARIES_H_

namespace pylaunch::engine {

// True if `caller`, a return address, lies in a library of host_name_libraries.txt, told by its
// build-id (elf(5), NT_GNU_BUILD_ID). Makes no allocation. On any thread.
bool KeepsNoHostName(const void* caller);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_LIBC_HOST_NAME_LIBRARIES_H_
