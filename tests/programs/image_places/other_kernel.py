"""Runs a command as if the kernel were another one.

    other_kernel.py no-droppable|sealed|4.18 COMMAND ...

`no-droppable`: mmap(2) knows no MAP_DROPPABLE, as before Linux 6.11. `sealed`: mremap(2) moves
nothing, as a kernel that has sealed its own pages (CONFIG_MSEAL_SYSTEM_MAPPINGS) moves these.
`4.18`: no system call is there that came later; RHEL 8 has that kernel.
"""

import sys

from seccomp_filter import (
    ALLOW,
    EQUAL,
    ERRNO,
    GREATER_OR_EQUAL,
    RETURN,
    argument,
    instruction,
    run_under,
)
from seccomp_filter import when_number_is as when

MMAP, MREMAP, DROPPABLE, EPERM, EINVAL = 9, 25, 0x28, 1, 22
ENOSYS, NEWER = 38, 335
AND = 0x54  # BPF_ALU | BPF_AND | BPF_K

allow = instruction(RETURN, ALLOW)
if sys.argv[1] == "sealed":
    refused = when(MREMAP, [instruction(RETURN, ERRNO | EPERM)])
elif sys.argv[1] == "4.18":
    newer = instruction(GREATER_OR_EQUAL, NEWER, 0, 1)
    refused = [newer, instruction(RETURN, ERRNO | ENOSYS)]
else:
    droppable = [argument(3), instruction(AND, DROPPABLE), instruction(EQUAL, DROPPABLE, 1, 0)]
    refused = when(MMAP, [*droppable, allow, instruction(RETURN, ERRNO | EINVAL)])
run_under([*refused, allow], sys.argv[2:])
