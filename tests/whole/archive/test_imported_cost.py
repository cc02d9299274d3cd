"""A module that is imported already costs no more under pylaunch than under stock Python.

Counted in instructions: a clock does not tell one percent of 80 ns where others use the machine.
"""

from __future__ import annotations

import ctypes
import os
import signal

import pytest
from conftest import clean_environment

# ptrace(2), linux/ptrace.h.
TRACEME, CONTINUE, STEP = 0, 7, 9
ROUNDS = 3
FORBIDDEN = 126  # Exit code of a child that may not be traced.
PROGRAM = f"""
import os, signal, threading, xml.dom.minidom
from importlib import import_module

done = threading.Event()
if THREADED:
    threading.Thread(target=done.wait, daemon=True).start()

def times(n):
    for _ in range(n):
        STATEMENT

times(50)  # Until the interpreter has specialised the loop.
pid = os.getpid()
for _ in range({ROUNDS + 1}):
    os.kill(pid, signal.SIGUSR1)
    times(1)
"""
STATEMENTS = (
    "import os",
    "import xml.dom.minidom",
    "from os import path",
    "from xml.dom import minidom as _",
    "import_module('xml.dom.minidom')",
)

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def trace(request: int, pid: int, data: int = 0) -> None:
    if libc.ptrace(request, pid, None, data) < 0:
        raise OSError(ctypes.get_errno(), f"ptrace({request})")


def instructions(argv: list[str], env: dict[str, str]) -> int:
    """How many the main thread runs in user space from one SIGUSR1 it sends itself to the next.

    The least of all rounds: now and then one has more to do (a full pool, a symbol to bind).
    """
    pid = os.fork()
    if pid == 0:
        try:
            try:
                trace(TRACEME, 0)
            except PermissionError:  # Some sandboxes' seccomp filters.
                os._exit(FORBIDDEN)
            os.execve(argv[0], argv, env)
        finally:
            os._exit(127)
    rounds: list[int] = []
    while len(rounds) <= ROUNDS:
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == FORBIDDEN:
            pytest.skip("ptrace is forbidden here")
        assert os.WIFSTOPPED(status), f"ended with {os.waitstatus_to_exitcode(status)}: {argv}"
        number = os.WSTOPSIG(status)
        if number == signal.SIGUSR1:
            rounds.append(0)
        elif rounds:
            rounds[-1] += 1
        passed_on = 0 if number in (signal.SIGTRAP, signal.SIGUSR1) else number
        trace(STEP if rounds else CONTINUE, pid, passed_on)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return min(rounds[:ROUNDS])


@pytest.fixture(autouse=True)
def one_processor():
    """Each step is two switches between processes: ten times as slow between processors."""
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(ours)})
    yield
    os.sched_setaffinity(0, ours)


@pytest.mark.slow  # 1.6 s each.
@pytest.mark.parametrize("threaded", [False, True], ids=["alone", "beside-a-thread"])
@pytest.mark.parametrize("statement", STATEMENTS)
def test_an_imported_module_costs_no_more_than_under_stock(lab, tmp_path, statement, threaded):
    lab.need_pylaunch()
    program = PROGRAM.replace("STATEMENT", statement).replace("THREADED", str(threaded))
    env = clean_environment(lab.home, PYTHONHASHSEED="0")
    python = str(lab.python)
    ours = [str(lab.pylaunch), "--python", python, "--cache", str(tmp_path / "cache")]
    stock = instructions([python, "-c", program], env)
    assert stock > 100
    for form in ([*ours, "--cache-mode=off"], ours):
        assert instructions([*form, "-c", program], env) <= 1.01 * stock
