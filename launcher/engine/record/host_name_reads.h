#ifndef PYLAUNCH_LAUNCHER_ENGINE_RECORD_HOST_NAME_READS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_RECORD_HOST_NAME_READS_H_

#include <string>
#include <vector>

namespace pylaunch::engine {

// Containers of one host have host names of their own and may share a cache. So the host name is a
// fact of an image (handoff.h, kHostName) if preloading asked for it: by gethostname(2), or by
// uname(2) from C code, which start_calls.h tells. os.uname() has other fields, and hardly anybody
// who calls it wants this one (numpy and torch, when imported, want the kernel's release and the
// machine). So of Python code the call counts, and one of platform.uname(), which keeps what it
// found, unless the very next thing that the caller does is to take another field from it, or it is
// a function for which host_name_ignorers.txt vouches (known_list.h).

// Once `os` is there. REQUIRES: the GIL.
void StartHostNameReads();
// For the import of `platform`; does nothing if that is not loaded yet, or known already.
void FollowPlatform();
// REQUIRES: the GIL.
void StopHostNameReads();
// What that list knows in other versions, in sentences.
std::vector<std::string> HostNameListToReadAgain();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_RECORD_HOST_NAME_READS_H_
