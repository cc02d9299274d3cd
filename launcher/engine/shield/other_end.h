#ifndef PYLAUNCH_LAUNCHER_ENGINE_SHIELD_OTHER_END_H_
#define PYLAUNCH_LAUNCHER_ENGINE_SHIELD_OTHER_END_H_

#include <sys/socket.h>

namespace pylaunch::engine {

// Whether what comes through a descriptor of this process can only come from another process. For
// pipes, FIFOs, TCP and named Unix sockets: no descriptor of this process is the other end. False
// for all else, and where it cannot be told. Takes no lock, needs no GIL.
bool OtherEndIsElsewhere(int fd);

// The same for a socket that is being connected to `peer`.
bool PeerIsElsewhere(const sockaddr_storage& peer);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_SHIELD_OTHER_END_H_
