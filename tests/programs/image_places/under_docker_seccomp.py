"""Runs a command under Docker's default seccomp profile for a container without capabilities.

    under_docker_seccomp.py errno|kill COMMAND ...

`errno`: what the profile forbids fails with EPERM, as under Docker. `kill`: it ends the process
with SIGSYS, so that whoever lives has tried none of it.
"""

import sys
from pathlib import Path

from seccomp_filter import (
    ALLOW,
    EQUAL,
    ERRNO,
    KILL,
    RETURN,
    SET,
    argument,
    instruction,
    run_under,
    when_number_is,
)

PROFILE = Path(__file__).parents[3] / "third_party/docker-default.txt"
EPERM, ENOSYS = 1, 38
SOCKET, CLONE, PERSONALITY, CLONE3 = 41, 56, 135, 435
NAMESPACES = 0x7E020000  # CLONE_NEW*, which the profile forbids in clone's flags.
PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)


def allow_first_argument(tests, forbidden):
    """`tests`: pairs of instructions, of which the second is skipped for other arguments."""
    return [argument(0), *tests, forbidden]


def program(forbidden):
    allow = instruction(RETURN, ALLOW)
    refuse = instruction(RETURN, forbidden)
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


run_under(program(KILL if sys.argv[1] == "kill" else ERRNO | EPERM), sys.argv[2:])
