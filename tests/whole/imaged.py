"""Runs programs with --image, and reads from --explain what became of it."""

import ctypes
import functools
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

from conftest import Result, clean_environment, start

# The interpreter with the real packages; conftest's own `lab.python` is the bare one under it.
PYTHON = os.environ.get("PYLAUNCH_TEST_PYTHON") or sys.executable
# As the kernel knows a thread with this target: CPython from 3.14 on names it.
VERSION = tuple(
    map(int, subprocess.check_output([PYTHON, "-V"], text=True).split()[1].split(".")[:2])
)
SLEEPER = "python" if VERSION < (3, 14) else "Thread-1 (sleep"
RACY = 2.2  # Files younger than two seconds prove nothing (cache/stamp.h).

PRELOADS = {
    "plain": [],
    "numpy": ["import numpy"],
    "torch": ["import torch"],
    "transformers": ["from transformers import AutoModelForSequenceClassification, Trainer"],
}


# For a module that makes mappings: their memory, what smaps says of them, how a child finds them.
MAPPINGS = """
import ctypes
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.syscall.argtypes = [ctypes.c_long] * 4
SIZE = 1 << 16
def fresh(kind):
    return libc.mmap(None, SIZE, 3, kind, -1, 0)
def words(address):
    return (ctypes.c_ulong * (SIZE // 8)).from_address(address)
def flags(address):
    inside = False
    for line in open("/proc/self/smaps"):
        first = line.split()[0]
        if not first.endswith(":"):
            start, end = (int(x, 16) for x in first.split("-"))
            inside = start <= address < end
        elif inside and first == "VmFlags:":
            # Reservations of swap space and soft-dirty marks are the kernel's own business.
            return sorted(set(line.split()[1:]) - {"nr", "ac", "sd"})
def in_child(function):
    import os
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(write, repr(function()).encode())
        os._exit(0)
    os.close(write)
    _, status = os.waitpid(pid, 0)
    return os.read(read, 1000).decode(), os.waitstatus_to_exitcode(status)
"""


class Imaged:
    """Runs programs with --image on a cache of its own."""

    def __init__(self, lab, folder: Path):
        self.lab, self.folder = lab, folder
        self.cwd = folder / "cwd"
        self.cwd.mkdir(parents=True, exist_ok=True)
        self.cache = folder / "cache"
        self.python = PYTHON

    def argv(self, *args, preload=(), explain=True) -> list[str]:
        flags = ["--python", self.python, "--image", "--cache", str(self.cache)]
        flags += [f"--preload={line}" for line in preload]
        return [
            str(self.lab.pylaunch),
            *flags,
            *(["--explain"] if explain else []),
            *map(str, args),
        ]

    def env(self, env=None) -> dict[str, str]:
        return {**clean_environment(self.lab.home), "PYLAUNCH_SEAL": "wait", **(env or {})}

    def __call__(
        self, *args, preload=(), env=None, cwd=None, wrap=(), stdin=None, **kwargs
    ) -> Result:
        argv = [*wrap, *self.argv(*args, preload=preload)]
        process = start(argv, self.env(env), cwd or self.cwd, stdin=stdin, **kwargs)
        out, err = process.communicate(timeout=300)
        return Result(process.returncode, (out or b"").decode(), (err or b"").decode())

    def make(self, *args, **kwargs) -> Result:
        """Runs once, so that an image is there; restores nothing itself."""
        made = self(*args, **kwargs)
        assert "image: being made" in made.err, made.err
        assert not list(self.images("*.note")), [x.read_text() for x in self.images("*.note")]
        return made

    def images(self, pattern="*.img") -> list[Path]:
        return sorted((self.cache / "images").glob(pattern))

    def stock(self, *args, env=None, cwd=None, wrap=(), stdin=None, **kwargs) -> Result:
        argv = [*wrap, self.python, *map(str, args)]
        process = start(
            argv,
            clean_environment(self.lab.home, **(env or {})),
            cwd or self.cwd,
            stdin=stdin,
            **kwargs,
        )
        out, err = process.communicate(timeout=300)
        return Result(process.returncode, (out or b"").decode(), (err or b"").decode())


def write_unseen(image: Path) -> None:
    """Changes a byte of the image, and gives the file its times back; but for ctime."""
    was, data = image.stat(), image.read_bytes()
    at = next(i for i in range(len(data) // 2, len(data)) if data[i])
    with image.open("r+b") as file:
        file.seek(at)
        file.write(bytes([data[at] ^ 1]))
    os.utime(image, ns=(was.st_atime_ns, was.st_mtime_ns))


def restored(result: Result) -> bool:
    return re.search(r"^pylaunch: explain: image: /.*\.img$", result.err, re.M) is not None


def reason(result: Result) -> str:
    """Why no image was used, as --explain tells first."""
    found = re.search(r"^pylaunch: explain: image: (.*)$", result.err, re.M)
    assert found, result.err
    return found[1]


def why_not_made(result: Result) -> str:
    found = re.search(r"^pylaunch: explain: image: not made: (.*)$", result.err, re.M)
    assert found, result.err
    return found[1]


def xxh3(data: bytes) -> bytes:
    """XXH3-64, by the library that every Debian has."""
    hash_of = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
    hash_of.restype, hash_of.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t]
    return hash_of(data, len(data)).to_bytes(8, "little")


def change_key(key: Path, words: dict[bytes, bytes]) -> None:
    """Other words in a key's head, whose own checksum is right then (image/key.cc)."""
    data = key.read_bytes()
    start, size = 36, int.from_bytes(data[12:20], "little")
    head = data[start : start + size]
    for old, new in words.items():
        assert head.count(old) == 1 and len(old) == len(new)
        head = head.replace(old, new)
    key.write_bytes(data[:20] + xxh3(head) + data[28:start] + head + data[start + size :])


class Table:
    """What stands before an image's pages (image/format.h), for tests to change."""

    def __init__(self, path: Path):
        self.path = path
        (size,) = struct.unpack_from("<Q", path.read_bytes()[:32], 24)
        self.was = path.read_bytes()[:size]
        self.bytes = bytearray(self.was)
        _, offset, size = struct.unpack_from("<3Q", self.was, 40)
        self.vdso = range(offset, offset + size)

    def write(self) -> None:
        """The key says of the image what is so then."""
        before = self.path.stat()
        with self.path.open("r+b") as file:
            file.write(self.bytes)
        after = self.path.stat()
        times = [struct.pack("<2q", x.st_mtime_ns, x.st_ctime_ns) for x in (before, after)]
        hashes = [xxh3(bytes(x)) for x in (self.was, self.bytes)]
        change_key(self.path.with_suffix(".key"), dict([times, hashes]))


@functools.cache
def has(package: str) -> bool:
    find = f"import importlib.util as u, sys; sys.exit(u.find_spec({package!r}) is None)"
    return subprocess.run([PYTHON, "-c", find], check=False).returncode == 0


def bound(source, target) -> list[str]:
    return ["unshare", "-m", "sh", "-c", f'mount --bind {source} {target}; exec "$@"', "-"]


def in_other_boot(folder) -> list[str]:
    """A process of this, which wants root, has another boot id."""
    other = folder / "boot_id"
    other.write_text("11111111-2222-3333-4444-555555555555\n")
    return bound(other, "/proc/sys/kernel/random/boot_id")
