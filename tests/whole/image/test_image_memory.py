# ruff: noqa: E501 - programs in strings read better on long lines.
"""What the kernel keeps of a process's memory and of its thread, fork(2) hands on and execve(2) forgets, a restored process has again.

docs/image-design.md, "What the kernel keeps", has the whole list; what cannot be put back makes an entry late (test_image_late.py).
"""

import ctypes
import mmap
import os
import time

import pytest
from conftest import Tree
from imaged import MAPPINGS, PRELOADS, RACY, Imaged, has, restored

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
LIBC.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
LIBC.syscall.argtypes = [ctypes.c_long] * 4

PRIVATE, DROPPABLE = 0x22, 0x28
SEAL = "mseal"
# Flag of smaps: how a mapping gets it (flags of mmap, advice of madvise or SEAL), and whether it is the first page's alone.
TRAITS = {
    "wf": (PRIVATE, 18),
    "dd": (PRIVATE, 16),
    "hg": (PRIVATE, 14),
    "nh": (PRIVATE, 15),
    "mg": (PRIVATE, 12),
    "sr": (PRIVATE, 2),
    "rr": (PRIVATE, 1),
    "dp": (DROPPABLE, None),
    "sl": (PRIVATE, SEAL),
}
GUARD = 102


def is_known(kind: int, advice) -> bool:
    """To this kernel."""
    at = LIBC.mmap(None, mmap.PAGESIZE, 3, kind, -1, 0)
    if at in (None, ctypes.c_void_p(-1).value):
        return False
    if advice == SEAL:
        return LIBC.syscall(462, at, mmap.PAGESIZE, 0) == 0
    known = advice is None or LIBC.madvise(at, mmap.PAGESIZE, advice) == 0
    LIBC.munmap(at, mmap.PAGESIZE)
    return known


@pytest.fixture
def compare(lab, tmp_path):
    """Runs a program that has imported `kept`, a module, and asserts that restored it does what it does under stock."""
    lab.need_pylaunch()

    def run(source: str, program: str, expected: str | None = None):
        lib = Tree(tmp_path / "lib").write({"kept.py": MAPPINGS + source})
        image = Imaged(lab, tmp_path / "image")
        env = {"PYTHONPATH": str(lib)}
        program = "import kept\n" + program
        stock = image.stock("-c", program, env=env)
        assert stock.code == 0, stock.err
        if expected is not None:
            assert stock.out == expected
        time.sleep(RACY)
        image.make("-c", program, preload=["import kept"], env=env)
        for _ in range(2):
            got = image("-c", program, preload=["import kept"], env=env)
            assert restored(got), got.err
            assert (got.code, got.out) == (0, stock.out), got.err

    return run


def made(kind: int, advice) -> str:
    if advice == SEAL:
        return f"at = fresh({kind}); libc.syscall(462, at, SIZE, 0)\n"
    return f"at = fresh({kind})\n" + (
        "" if advice is None else f"libc.madvise(at, SIZE, {advice})\n"
    )


@pytest.mark.parametrize("written", [False, True], ids=["empty", "written"])
@pytest.mark.parametrize("flag", TRAITS)
def test_a_mapping_is_of_the_kind_that_preloading_made_it(compare, flag, written):
    kind, advice = TRAITS[flag]
    if not is_known(kind, advice):
        pytest.skip("this kernel knows no such thing")
    fill = "words(at)[1] = words(at)[5000] = 77\n" if written and flag not in ("wf", "dp") else ""
    compare(
        made(kind, advice) + fill,
        f"print({flag!r} in kept.flags(kept.at), kept.flags(kept.at), list(kept.words(kept.at)[::1000]))",
    )


@pytest.mark.parametrize("flag", ["wf", "dp"])
def test_memory_that_a_fork_empties_is_empty_in_children_of_a_restored_process(compare, flag):
    kind, advice = TRAITS[flag]
    if not is_known(kind, advice):
        pytest.skip("this kernel knows no such thing")
    # What preloading put there is gone as well: a restored process is a forked one.
    compare(
        made(kind, advice),
        "seen = kept.words(kept.at)\nbefore = seen[1]\nseen[1] = 5\nprint(before, kept.in_child(lambda: seen[1]), seen[1])",
        "0 ('0', 0) 5\n",
    )


def test_what_preloading_wrote_where_a_fork_empties_is_gone(lab, tmp_path):
    """Else whoever notices forks by such a page (BoringSSL) would take a restored process for the one that preloaded."""
    lab.need_pylaunch()
    lib = Tree(tmp_path / "lib").write(
        {"kept.py": MAPPINGS + made(*TRAITS["wf"]) + "words(at)[1] = 7\n"}
    )
    image = Imaged(lab, tmp_path / "image")
    runs = {"preload": ["import kept"], "env": {"PYTHONPATH": str(lib)}}
    program = "import kept; print(kept.words(kept.at)[1])"
    time.sleep(RACY)
    assert image.make("-c", program, **runs).out == "7\n"
    again = image("-c", program, **runs)
    assert restored(again) and again.out == "0\n"


@pytest.mark.parametrize("page", [0, 3, 15])
def test_a_guard_page_still_kills(compare, page):
    if not is_known(PRIVATE, GUARD):
        pytest.skip("this kernel knows no such thing")
    compare(
        f"at = fresh({PRIVATE})\nwords(at)[:] = range(SIZE // 8)\nlibc.madvise(at + 4096 * {page}, 4096, {GUARD})\n",
        "seen = kept.words(kept.at)\n"
        "print([kept.in_child(lambda: seen[page * 512 + 5]) for page in range(16)])",
    )


@pytest.mark.parametrize(
    "command", [1 << 1, 1 << 4, 1 << 5, 1 << 7], ids=["shared", "private", "private sync", "rseq"]
)
def test_registrations_for_membarrier_are_kept(compare, command):
    if LIBC.syscall(324, 1 << 9, 0, 0) < 0:
        pytest.skip("this kernel does not tell registrations")
    compare(
        f"libc.syscall(324, {command << 1 if command == 2 else command}, 0, 0)\n",
        "print(kept.libc.syscall(324, 1 << 9, 0, 0))",
    )


def test_rounding_and_flushing_of_floats_are_kept(compare):
    """As after `-ffast-math` libraries, whose constructor sets both for the process."""
    compare(
        "libc.fesetround(0xc00)\n",
        "print(kept.libc.fegetround(), [float(x) / 3 for x in range(9)])",
    )


@pytest.mark.skipif(not os.path.exists("/proc/self/numa_maps"), reason="a kernel without NUMA")
def test_memory_bound_to_nodes_forbids_the_image(lab, tmp_path):
    lab.need_pylaunch()
    bind = f"import ctypes\nat = fresh({PRIVATE})\nwords(at)[0] = 1\n"
    bind += "assert libc.syscall(237, at, SIZE, 2, ctypes.addressof(ctypes.c_ulong(1))) == 0\n"
    bind = bind.replace("libc.syscall(237, at, SIZE, 2, ctypes.addressof(ctypes.c_ulong(1)))",
                        "bound(at)")  # fmt: skip
    source = (
        MAPPINGS
        + "def bound(at):\n    mask = ctypes.c_ulong(1)\n    call = ctypes.CDLL(None).syscall\n"
    )
    source += "    return call(237, ctypes.c_long(at), ctypes.c_long(SIZE), ctypes.c_long(2), ctypes.byref(mask), ctypes.c_long(64), ctypes.c_long(0))\n"
    lib = Tree(tmp_path / "lib").write({"kept.py": source + bind})
    image = Imaged(lab, tmp_path / "image")
    runs = {"preload": ["import kept"], "env": {"PYTHONPATH": str(lib)}}
    time.sleep(RACY)
    image("-c", "pass", **runs)
    assert not image.images()
    assert [x.read_text() for x in image.images("*.note")] == [
        "preloading chose the nodes that memory is on"
    ]


def test_children_of_a_restored_process_draw_numbers_of_their_own(lab, tmp_path):
    """glibc 2.41 and later keep getrandom's state in memory that a fork empties (scripts/test-debian13 has such a one)."""
    lab.need_pylaunch()
    program = """
import multiprocessing as mp, os, secrets, uuid
def draw(_): return os.urandom(8).hex(), str(uuid.uuid4()), secrets.token_hex(8)
if __name__ == "__main__":
    print(os.urandom(8).hex())
    with mp.get_context("fork").Pool(4) as pool:
        for drawn in pool.map(draw, range(4), chunksize=1): print(*drawn, sep="\\n")
"""
    path = Tree(tmp_path / "cwd").write({"draw.py": program}) / "draw.py"
    image = Imaged(lab, tmp_path / "image")
    preload = ["import json, random, uuid, tempfile, secrets, multiprocessing.pool"]
    time.sleep(RACY)
    image.make(path, preload=preload)
    drawn = []
    for _ in range(3):
        run = image(path, preload=preload)
        assert restored(run), run.err
        drawn += run.out.split()
    assert len(drawn) == 39 and len(set(drawn)) == 39, drawn


def test_an_idle_restored_process_owns_little(lab, tmp_path):
    """Whatever is freed or counted on the way to the program copies pages of the image, in each process of it."""
    lab.need_pylaunch()
    image = Imaged(lab, tmp_path / "image")
    preload = PRELOADS["torch"] if has("torch") else ["import asyncio, unittest, xml.dom.minidom"]
    program = "import re; print(re.search(r'Private_Dirty: +(\\d+)', open('/proc/self/smaps_rollup').read())[1])"
    image.make("-c", program, preload=preload)
    for _ in range(2):
        got = image("-c", program, preload=preload)
    assert restored(got) and int(got.out) < 5 << 10, got.out
