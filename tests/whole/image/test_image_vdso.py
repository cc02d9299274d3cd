"""An image of another kernel keeps its vdso, whose functions lead to those of the kernel's own.

Here the kernel is the same and the image's copy is changed; scripts/test-kernels has others.
"""

import subprocess
import time

import pytest
from conftest import Tree
from imaged import MAPPINGS, PYTHON, RACY, Imaged, Table, restored
from test_image_places import PLACES, under_docker

# Each clock by the C library, which asks the vdso, and by the system call.
PROGRAM = """
import asyncio, concurrent.futures, ctypes, datetime, os, random, secrets, subprocess, sys, time
libc = ctypes.CDLL(None)
libc.getauxval.restype, libc.getauxval.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
libc.time.restype = ctypes.c_long
pair = ctypes.c_long * 2
def called(number, *args):
    got = pair()
    assert libc.syscall(number, *args, got) == 0
    return got[0] + got[1] / 1e9
def near(a, b): return abs(a - b) < 2
def clocks():
    day = pair()
    assert libc.gettimeofday(day, None) == 0
    cpu, node = ctypes.c_uint(99999), ctypes.c_uint(99999)
    assert libc.getcpu(ctypes.byref(cpu), ctypes.byref(node)) == 0
    monotonic = [time.monotonic() for _ in range(1000)]
    return [near(time.time(), called(228, 0)), near(time.monotonic(), called(228, 1)),
            near(time.clock_gettime(time.CLOCK_BOOTTIME), called(228, 7)),
            time.clock_getres(time.CLOCK_MONOTONIC) == called(229, 1),
            near(libc.time(None), called(228, 0)), near(day[0], called(228, 0)),
            cpu.value in os.sched_getaffinity(0), monotonic == sorted(monotonic),
            near(datetime.datetime.now().timestamp(), called(228, 0)),
            len({random.random(), secrets.token_hex(), *os.urandom(8), os.getrandom(8)}) > 3]
assert all(clocks()), clocks()
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    assert all(all(x) for x in pool.map(lambda _: clocks(), range(64)))
if (child := os.fork()) == 0:
    os._exit(7 if all(clocks()) else 8)
print("fork", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
late = "import time; print(time.time() > 0)"
print("exec", subprocess.check_output([sys.executable, "-c", late]))
begun = time.monotonic()
asyncio.run(asyncio.sleep(0.05))
print("slept", 0.04 < time.monotonic() - begun < 30)
"""
# Whether the kernel's own vdso is what the C library takes for it.
LIVE = """
import ctypes
libc = ctypes.CDLL(None)
libc.getauxval.restype, libc.getauxval.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
(line,) = [x for x in open("/proc/self/maps") if x.startswith("%x-" % libc.getauxval(33))]
print("live", line.split()[1], line.split()[5:])
"""
PRELOAD = ["import asyncio", "import ctypes"]
OUT = "fork 7\nexec b'True\\n'\nslept True\n"


def of_another_kernel(image: Imaged, *, magic=False) -> None:
    """Another number of the kernel's version in the image's copy, or no ELF file at all."""
    (path,) = image.images()
    table = Table(path)
    note = table.bytes.index(b"Linux\0", table.vdso.start, table.vdso.stop)
    table.bytes[table.vdso.start if magic else note + 8] ^= 1
    table.write()


def test_the_same_kernel_s_vdso_is_moved(image):
    image.make("-c", "pass", preload=PRELOAD)
    got = image("-c", PROGRAM + LIVE, preload=PRELOAD)
    assert restored(got), got.err
    assert (got.code, got.out) == (0, OUT + "live r-xp ['[vdso]']\n"), got.err


@pytest.mark.parametrize("where", ["here", "under Docker's seccomp profile"])
def test_clocks_and_random_numbers_by_another_kernel_s_vdso(image, where):
    wrap = [] if where == "here" else under_docker("kill")
    stock = image.stock("-c", PROGRAM, wrap=wrap)
    assert (stock.code, stock.out) == (0, OUT), stock.err
    image.make("-c", "pass", preload=PRELOAD, wrap=wrap)
    of_another_kernel(image)
    for _ in range(3):
        got = image("-c", PROGRAM + LIVE, preload=PRELOAD, wrap=wrap)
        assert restored(got), got.err
        assert (got.code, got.out) == (0, OUT + "live r-xp []\n"), got.err


def test_what_is_no_vdso_ends_on_the_archive_path(image):
    show = "import os; print(os.readlink('/proc/self/exe').endswith('/pylaunch-restore'))"
    image.make("-c", "pass", preload=PRELOAD)
    assert image("-c", show, preload=PRELOAD).out == "True\n"
    of_another_kernel(image, magic=True)
    got = image("-c", PROGRAM + show, preload=PRELOAD)
    assert (got.code, got.out) == (0, OUT + "False\n"), got.err


def other_kernel(what: str) -> list[str]:
    wrap = [PYTHON, str(PLACES / "other_kernel.py"), what]
    if subprocess.run([*wrap, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no seccomp filters here")
    return wrap


def test_a_sealed_vdso_stays_where_it_is(image):
    image.make("-c", "pass", preload=PRELOAD)
    got = image("-c", PROGRAM + LIVE, preload=PRELOAD, wrap=other_kernel("sealed"))
    assert restored(got), got.err
    assert (got.code, got.out) == (0, OUT + "live r-xp []\n"), got.err


def test_droppable_memory_is_ordinary_where_there_is_none(image):
    source = MAPPINGS + "at = fresh(0x28)\nfirst = at in (None, 2**64 - 1) or flags(at)\n"
    lib = Tree(image.folder / "lib").write({"kept.py": source})
    show = (
        "import kept, ctypes; kept.words(kept.at)[1] = 5\n"
        "print(kept.flags(kept.at), kept.in_child(lambda: kept.words(kept.at)[1]))\n"
        "print(kept.fresh(0x28) == 2**64 - 1)\n"
    )
    runs = {"preload": ["import kept"], "env": {"PYTHONPATH": str(lib)}}
    if image.stock("-c", "import kept; print(kept.first)", env=runs["env"]).out == "True\n":
        pytest.skip("this kernel knows no such thing")
    time.sleep(RACY)
    image.make("-c", "pass", **runs)
    got = image("-c", show, **runs)
    assert restored(got) and "'dp'" in got.out and got.out.endswith("False\n"), got.err + got.out
    got = image("-c", show, **runs, wrap=other_kernel("no-droppable"))
    assert restored(got), got.err
    flags = ["dd", "mr", "mw", "me", "rd", "wf", "wr"]
    assert got.out == f"{sorted(flags)} ('0', 0)\nTrue\n"
