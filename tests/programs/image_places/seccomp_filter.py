"""System call filters, as in seccomp(2) and linux/filter.h; x86_64 only."""

import ctypes
import os
import signal
import struct

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


def instruction(code, value, if_true=0, if_false=0):
    return struct.pack("HBBI", code, if_true, if_false, value)


def when_number_is(number, then):
    return [instruction(EQUAL, number, 0, len(then)), *then]


def argument(index):
    """Its lower half."""
    return instruction(LOAD, FIRST_ARGUMENT + 8 * index)


class Program(ctypes.Structure):  # struct sock_fprog
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def run_under(instructions, command):
    """Executes `command` with these behind a test of the architecture and the number's loading."""
    first = [
        instruction(LOAD, ARCHITECTURE),
        instruction(EQUAL, X86_64, 1, 0),
        instruction(RETURN, KILL),
        instruction(LOAD, NUMBER),
    ]
    instructions = [*first, *instructions]
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
