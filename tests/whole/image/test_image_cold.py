"""An image that is not in memory: what a start needs is known since it was tried, and read at once.

Those with transformers are slow: PYLAUNCH_ECOSYSTEM=full runs them.
"""

import ctypes
import mmap
import os
import struct
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Tree
from imaged import PRELOADS, RACY, has, reason, restored

PAGE = mmap.PAGESIZE
MIB = 1 << 20
MOST_LISTED = 48 * MIB  # image/page_list.h, kMostListedBytes
MOST_READ = 60 * MIB
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
LIBC.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


def list_of(image: Path) -> dict[str, set[int]]:
    """The pages that a process needs, as the image has them: its own are under ""."""
    data = image.read_bytes()
    piece_count, paths_offset = struct.unpack_from("<IQ", data, 12)
    header_size = paths_offset - 72 * piece_count  # image/format.h, Piece
    offset, size = struct.unpack_from("<2Q", data, header_size - 16)
    at, needed = offset + 8, {}

    def number(form: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from(form, data, at)
        at += struct.calcsize(form)
        return value

    for _ in range(number("<Q") if size else 0):
        length = number("<Q")
        path, at = data[at : at + length].decode(), at + length
        runs = [(number("<I"), number("<I")) for _ in range(number("<Q"))]
        needed[path] = {page for first, last in runs for page in range(first, last)}
    assert at == offset + size or not size
    return needed


def in_memory(path: Path) -> set[int]:
    size = path.stat().st_size
    fd = os.open(path, os.O_RDONLY)
    at = LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    os.close(fd)
    there = ctypes.create_string_buffer(-(-size // PAGE))
    assert LIBC.mincore(at, size, there) == 0
    LIBC.munmap(at, size)
    return {page for page, bits in enumerate(there.raw) if bits & 1}


def evict(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    if in_memory(path):
        pytest.skip("nothing can be evicted here")


# Pages that a start touches lie among many that it does not.
MINE = "data = [bytes(range(256)) * 4096 for _ in range(64)]\n"


needs_transformers = pytest.mark.skipif(
    os.environ.get("PYLAUNCH_ECOSYSTEM") != "full" or not has("transformers"), reason="slow: 15 s"
)


def library(folder: Path, files: dict[str, str]) -> Tree:
    tree = Tree(folder / "lib").write(files)
    time.sleep(RACY)
    return tree


@pytest.fixture
def lib(tmp_path):
    return library(tmp_path, {"mine.py": MINE})


@pytest.mark.parametrize("name", ["mine", pytest.param("transformers", marks=needs_transformers)])
def test_what_is_needed_is_known_and_read_before_anybody_asks(image, lib, name):
    preload = PRELOADS.get(name, ["import mine"])
    env = {"PYTHONPATH": str(lib)}
    image.make("-c", "pass", preload=preload, env=env)
    (path,) = image.images()
    needed = list_of(path)
    own = needed[""]
    assert any(name.endswith(".so") for name in needed)
    assert 0 < sum(map(len, needed.values())) * PAGE < MOST_LISTED
    assert len(own) * PAGE < path.stat().st_size / 3

    evict(path)
    with subprocess.Popen(
        image.argv("-c", "print(flush=True); input()", preload=preload),
        env={**image.env(), **env},
        cwd=image.cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        restore_signals=False,
    ) as process:
        process.stdout.readline()
        there = in_memory(path)
        _, err = process.communicate(b"\n")
    assert f"image: {path}\n".encode() in err, err
    # It has not ended, and so has not touched all of them.
    assert not own - there, f"{len(own - there)} of {len(own)} pages are not there"


@needs_transformers
def test_an_evicted_start_of_transformers_reads_little(image):
    preload = PRELOADS["transformers"]
    image.make("-c", "pass", preload=preload)
    (path,) = image.images()
    assert restored(image("-c", "pass", preload=preload))
    evict(path)
    # What --explain tells, it looks for in much more.
    quiet = image.argv("-c", "pass", preload=preload, explain=False)
    subprocess.run(
        quiet,
        env=image.env(),
        cwd=image.cwd,
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    assert len(image.images()) == 1
    there = in_memory(path)
    assert not list_of(path)[""] - there
    assert len(there) * PAGE < MOST_READ, f"{len(there) * PAGE / MIB:.0f} MiB"


# Its handler marks that it ran; where it may not, it does what `end` says.
AT_EXIT = """
import atexit, ctypes, os, signal, time
class Last:
    def __del__(self): mark("del")
def mark(what, open=open, os=os, PermissionError=PermissionError):
    try:
        with open("{marks}", "a") as file: file.write(what + "\\n")
    except PermissionError:
        {end}
kept = Last()
atexit.register(mark, "exit")
"""
ENDS = {
    "goes on": "pass",
    "hangs": "time.sleep(1000)",
    "crashes": "ctypes.string_at(0)",
    "exits": "os._exit(0)",
    "kills": "os.kill(os.getppid(), signal.SIGKILL)",
    "forks": "os.fork()",
}


@pytest.mark.parametrize("end", ENDS)
def test_what_libraries_do_at_exit_a_trial_does_to_nobody(image, tmp_path, end):
    marks = tmp_path / "marks"
    lib = library(tmp_path, {"mine.py": AT_EXIT.format(marks=marks, end=ENDS[end])})
    env = {"PYTHONPATH": str(lib)}
    expected = ["exit", "del"]
    stock = image.stock("-c", "import mine", env=env)
    assert stock.code == 0 and marks.read_text().split() == expected
    marks.unlink()
    assert image.make("-c", "pass", preload=["import mine"], env=env).code == 0
    assert marks.read_text().split() == expected  # The program's.
    (path,) = image.images()
    assert list_of(path)[""]
    again = image("-c", "pass", preload=["import mine"], env=env)
    assert restored(again) and again.code == 0
    assert marks.read_text().split() == expected * 2


def test_an_image_with_late_entries_has_a_list_too(image, tmp_path):
    late = "import os; fd = os.open('/dev/zero', os.O_RDONLY)\n"
    lib = library(tmp_path, {"mine.py": MINE, "late.py": late})
    env = {"PYTHONPATH": str(lib)}
    for _ in range(3):
        got = image("-c", "pass", preload=["import mine", "import late"], env=env)
    assert restored(got) and "imported late" in got.err, got.err
    (path,) = image.images()
    assert list_of(path)[""]


def test_a_list_that_was_changed_is_noticed(image, lib):
    env = {"PYTHONPATH": str(lib)}
    image.make("-c", "pass", preload=["import mine"], env=env)
    (path,) = image.images()
    with path.open("r+b") as file:
        file.seek(-PAGE + 100, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    got = image("-c", "pass", preload=["import mine"], env=env)
    assert not restored(got) and "is damaged" in reason(got), got.err
    assert restored(image("-c", "pass", preload=["import mine"], env=env))


OTHER_BOOT = "/proc/sys/kernel/random/boot_id"


@pytest.mark.parametrize(
    "where",
    ["here", pytest.param("elsewhere", marks=pytest.mark.skipif(os.geteuid() != 0, reason="root"))],
)
def test_it_is_read_while_files_are_proved(image, lib, tmp_path, where):
    """Since they are not as they were, no process touches the image."""
    env = {"PYTHONPATH": str(lib)}
    image.make("-c", "pass", preload=["import mine"], env=env)
    (path,) = image.images()
    assert image.images("*.digests")
    needed = list_of(path)[""]
    library(tmp_path, {"mine.py": MINE + "x = 1\n"})
    wrap = ()
    if where == "elsewhere":
        boot = tmp_path / "boot"
        boot.write_text("11111111-2222-3333-4444-555555555555\n")
        bind = f'mount --bind {boot} {OTHER_BOOT}; exec "$@"'
        wrap = ["unshare", "-m", "sh", "-c", bind, "-"]
    evict(path)
    options = ["--cache-mode", "readonly", "-c", "pass"]
    got = image(*options, preload=["import mine"], env=env, wrap=wrap)
    there = in_memory(path)
    assert not restored(got) and "mine.py changed" in reason(got), got.err
    assert not needed - there, f"{len(needed - there)} of {len(needed)} pages are not there"
