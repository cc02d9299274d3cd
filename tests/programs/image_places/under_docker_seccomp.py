"""Runs a command under Docker's default seccomp profile for a container without capabilities.

    under_docker_seccomp.py errno|kill COMMAND ...

`errno`: what the profile forbids fails with EPERM, as under Docker. `kill`: it ends the process
with SIGSYS, so that whoever lives has tried none of it. The filter as in seccomp(2) and
linux/filter.h; x86_64 only.
"""

import ctypes
import os
import signal
import struct
import sys
from pathlib import Path

LOAD, EQUAL, GREATER_OR_EQUAL, SET, RETURN = (
    0x20,
    0x15,
    0x35,
    0x45,
    0x06,
)  # BPF_LD | BPF_W | BPF_ABS, ...
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # Offsets in struct seccomp_data.
X86_64 = 0xC000003E  # AUDIT_ARCH_X86_64
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000  # SECCOMP_RET_*
PROFILE = Path(__file__).parents[3] / "third_party/docker-default.txt"
EPERM, ENOSYS = 1, 38
SOCKET, CLONE, PERSONALITY, CLONE3 = 41, 56, 135, 435
NAMESPACES = 0x7E020000  # CLONE_NEW*, which the profile forbids in clone's flags.
PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)


def instruction(code, value, if_true=0, if_false=0):
    return struct.pack("HBBI", code, if_true, if_false, value)


def when_number_is(number, then):
    return [instruction(EQUAL, number, 0, len(then)), *then]


def allow_first_argument(tests, forbidden):
    """`tests`: pairs of instructions, of which the second is skipped for other arguments."""
    return [instruction(LOAD, FIRST_ARGUMENT), *tests, forbidden]


def program(forbidden):
    allow = instruction(RETURN, ALLOW)
    refuse = instruction(RETURN, forbidden)
    yield instruction(LOAD, ARCHITECTURE)
    yield from (instruction(EQUAL, X86_64, 1, 0), instruction(RETURN, KILL))
    yield instruction(LOAD, NUMBER)
    values = [x for value in PERSONALITIES for x in (instruction(EQUAL, value, 0, 1), allow)]
    yield from when_number_is(PERSONALITY, allow_first_argument(values, refuse))
    unshared = [instruction(SET, NAMESPACES, 1, 0), allow]
    yield from when_number_is(CLONE, allow_first_argument(unshared, refuse))
    families = [x for value in (38, 40) for x in (instruction(EQUAL, value, 0, 1), refuse)]
    yield from when_number_is(SOCKET, allow_first_argument(families, allow))
    yield from when_number_is(CLONE3, [instruction(RETURN, ERRNO | ENOSYS)])
    lines = PROFILE.read_text().splitlines()
    for number in sorted(int(x.split()[1]) for x in lines if not x.startswith("#")):
        yield from when_number_is(number, [allow])
    yield refuse


class Program(ctypes.Structure):  # struct sock_fprog
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def main():
    mode, command = sys.argv[1], sys.argv[2:]
    instructions = list(program(KILL if mode == "kill" else ERRNO | EPERM))
    filter = Program(len(instructions), b"".join(instructions))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, seccomp, filter_mode = 38, 22, 2
    unused = ctypes.c_ulong(0)
    if libc.prctl(no_new_privileges, ctypes.c_ulong(1), unused, unused, unused) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
    if libc.prctl(seccomp, ctypes.c_ulong(filter_mode), ctypes.byref(filter)) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # By Python, for itself.
        signal.signal(ignored, signal.SIG_DFL)
    os.execvp(command[0], command)


main()
