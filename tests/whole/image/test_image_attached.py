# ruff: noqa: E501 - programs in strings read better on long lines.
"""Tools of CPython's own that look into a running Python find a restored one as they find stock's (3.14 and newer)."""

import subprocess
import time

import pytest
from conftest import finish, start
from imaged import PYTHON, RACY, VERSION, Imaged, restored

pytestmark = pytest.mark.skipif(VERSION < (3, 14), reason="new in 3.14")

# Says its number, and then waits in Python for whoever looks at it.
WAITS = """
import os, sys, time
def wait_to_be_seen():
    end = time.monotonic() + 60
    while not seen and time.monotonic() < end:
        sum(range(200))
seen = []
print(os.getpid(), flush=True)
wait_to_be_seen()
print(seen, 'json' in sys.modules)
"""
INJECT = "import sys; sys.remote_exec(int(sys.argv[1]), sys.argv[2])"


@pytest.fixture
def image(lab, tmp_path) -> Imaged:
    lab.need_pylaunch()
    time.sleep(RACY)
    return Imaged(lab, tmp_path)


def watched(image: Imaged, mode: str, program: str):
    """The program, begun: the process and its number."""
    argv = [PYTHON, "-c", program]
    if mode != "stock":
        image.make("-c", "pass", preload=["import json"])
        assert restored(image("-c", "pass", preload=["import json"]))
        argv = image.argv("-c", program, preload=["import json"])
    process = start(argv, image.env(), image.cwd)
    return process, int(process.stdout.readline())


@pytest.mark.parametrize("mode", ["stock", "image"])
def test_code_is_injected_into_a_restored_process(image, mode, tmp_path):
    """PEP 768, sys.remote_exec()."""
    script = tmp_path / "script.py"
    script.write_text(
        "import __main__, sys\n__main__.seen.append(sys._getframe(1).f_code.co_name)\n"
    )
    process, number = watched(image, mode, WAITS)
    done = subprocess.run(
        [PYTHON, "-c", INJECT, str(number), script], capture_output=True, text=True
    )
    code, out, _ = finish(process)
    assert (done.returncode, done.stderr) == (0, "")
    assert (code, out.decode()) == (0, f"['wait_to_be_seen'] {mode == 'image'}\n")


@pytest.mark.skipif(VERSION < (3, 15), reason="new in 3.15")
@pytest.mark.parametrize("mode", ["stock", "image"])
def test_the_sampling_profiler_sees_a_restored_process(image, mode, tmp_path):
    """PEP 799, python -m profiling.sampling attach."""
    process, number = watched(image, mode, WAITS)
    command = [
        PYTHON,
        "-m",
        "profiling.sampling",
        "attach",
        "-d",
        "1",
        "--collapsed",
        "-o",
        "stacks.txt",
        str(number),
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    process.kill()
    process.communicate()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "wait_to_be_seen" in (tmp_path / "stacks.txt").read_text()


# Ends in an error of Python's own where C's stack would end, on whatever stack it runs, in threads too.
DEEP = """
import threading
def nest():
    value = outer = []
    for _ in range(40000):
        value.append([])
        value = value[0]
    try: repr(outer)
    except RecursionError as e: print(type(e).__name__, str(e).partition('(')[0])
    while outer: outer = outer[0]
nest()
thread = threading.Thread(target=nest)
thread.start()
thread.join()
"""


@pytest.mark.parametrize("kib", [1024, 8192, "unlimited"])
def test_recursion_ends_where_cs_stack_does(image, kib):
    """The bounds of C's stack stand in the thread's state since 3.14."""
    wrap = ["sh", "-c", f'ulimit -S -s {kib}; exec "$0" "$@"']
    expected = image.stock("-c", DEEP, wrap=wrap)
    assert expected.code == 0 and "RecursionError" in expected.out
    image.make("-c", "pass", preload=["import json"], wrap=wrap)
    result = image("-c", DEEP, preload=["import json"], wrap=wrap)
    assert restored(result)
    assert (result.code, result.out) == (0, expected.out)
