# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""After a reboot times of a clock that begins with the boot would lie in the future: what may be changed is moved, what may not is told."""

import json
import os
import subprocess
import time

import pytest
from conftest import Tree
from imaged import PRELOADS, RACY, Imaged, has, in_other_boot, restored

TIMESPEC = "import ctypes\nclass Timespec(ctypes.Structure): _fields_ = [('sec', ctypes.c_long), ('nsec', ctypes.c_long)]\nkept = Timespec()\nctypes.CDLL(None).clock_gettime({clock}, ctypes.byref(kept))\n"

KEEPERS = {
    "monotonic": "import time\nkept = time.monotonic()\n",
    "perf_counter": "import time\nkept = {'start': [time.perf_counter()]}\n",
    "nanoseconds": "import time\nkept = time.monotonic_ns()\n",
    "boottime": "import time\nkept = time.clock_gettime(time.CLOCK_BOOTTIME)\n",
    "raw": "import time\nkept = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)\n",
    "array": "import array, time\nkept = array.array('d', [0, time.monotonic(), 0])\n",
    "default": "import time\ndef elapsed(start=time.monotonic()): return time.monotonic() - start\n",
}  # fmt: skip

# How `ago` tells the seconds that have gone by since then.
MOVABLE = {
    "timespec": TIMESPEC.format(clock=1) + "import time\ndef ago(): return time.monotonic() - kept.sec - kept.nsec / 1e9\n",
    "integer": "import array, time\nkept = array.array('q', [time.monotonic_ns()])\ndef ago(): return (time.monotonic_ns() - kept[0]) / 1e9\n",
    "both": TIMESPEC.format(clock=1) + "import array, time\nmore = array.array('q', [0, time.monotonic_ns(), 0])\ndef ago():\n a, b = time.monotonic() - kept.sec - kept.nsec / 1e9, (time.monotonic_ns() - more[1]) / 1e9\n assert abs(a - b) < 0.1 and not more[0] and not more[2]\n return a\n",
}  # fmt: skip

OTHERS = {
    "nothing": "",
    "duration": "import time\nstart = time.perf_counter()\nsum(range(10**5))\nkept = time.perf_counter() - start\ndel start\n",
    "deadline that has passed": "import threading\nevent = threading.Event()\nevent.wait(0.01)\nlock = threading.Lock()\nlock.acquire(timeout=1)\nlock.release()\n",
    "wall clock": "import time\nkept = time.time(), time.time_ns()\n",
    "processor time": TIMESPEC.format(clock=2) + "import time\nother = time.process_time(), time.thread_time_ns()\n",
    "local": "import time\ndef f():\n a, b = time.monotonic(), time.monotonic_ns()\n return a < b\nkept = [f() for _ in range(1000)]\n",
    "loop": "import asyncio\nasync def nap(): await asyncio.sleep(0.01)\nasyncio.run(nap())\n",
}  # fmt: skip

OFTEN = "import time\nfor _ in range(140_000): time.monotonic()\n"


def boot(image: Imaged) -> str:
    """What --stats says of the one image there is: why it is for this boot only."""
    argv = [str(image.lab.pylaunch), "--python", image.python, "--cache", str(image.cache), "--stats", "--json"]  # fmt: skip
    done = subprocess.run(argv, env=image.env(), cwd=image.cwd, capture_output=True, text=True, timeout=60, check=True)  # fmt: skip
    (found,) = json.loads(done.stdout)["images"]
    return found["boot"]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """All are old enough when the first image is made."""
    sources = [*KEEPERS.values(), *MOVABLE.values(), *OTHERS.values(), OFTEN]
    files = {f"keeper{i}.py": source for i, source in enumerate(sources)}
    lib = Tree(tmp_path_factory.mktemp("library") / "lib").write(files)
    time.sleep(RACY)
    return lib, {source: f"keeper{i}" for i, source in enumerate(sources)}


@pytest.fixture
def boot_of(image, library):
    lib, names = library

    def make(source):
        preload = [f"import {names[source]}"]
        image.make("-c", "pass", preload=preload, env={"PYTHONPATH": str(lib)})
        return boot(image)

    return make


@pytest.mark.parametrize("name", KEEPERS)
def test_what_keeps_such_a_time_is_for_this_boot(boot_of, name):
    assert boot_of(KEEPERS[name]) == "it keeps 1 time of a clock that begins with the boot"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("name", MOVABLE)
def test_what_may_be_changed_is_moved_with_the_clock(image, library, boot_of, name, tmp_path):
    assert boot_of(MOVABLE[name]) == ""
    lib, names = library
    time.sleep(3)

    def ago(*options, **kwargs):
        module = names[MOVABLE[name]]
        got = image(*options, "-c", f"import {module}; print({module}.ago())", preload=[f"import {module}"], env={"PYTHONPATH": str(lib)}, **kwargs)  # fmt: skip
        assert restored(got), got.err
        return float(got.out)

    assert ago() > 3
    other = in_other_boot(tmp_path)
    # As long ago as when the image was made, however late the start is.
    proved, adopted = ago(wrap=other), ago(wrap=other)
    sealed = ago("--cache-mode", "sealed", wrap=other)
    assert min(proved, adopted, sealed) > 0 and max(proved, adopted, sealed) < 3
    assert ago() > 3


@pytest.mark.parametrize("name", OTHERS)
def test_what_keeps_none_is_for_all(boot_of, name):
    assert boot_of(OTHERS[name]) == ""


def test_who_asks_too_often_is_for_this_boot(boot_of):
    assert boot_of(OFTEN) == "preloading has asked for the time too often"


@pytest.mark.slow
@pytest.mark.parametrize("name", PRELOADS)
def test_real_packages_keep_none(image, name):
    if PRELOADS[name] and not has(name):
        pytest.skip(f"no {name}")
    image.make("-c", "pass", preload=PRELOADS[name])
    assert boot(image) == ""
