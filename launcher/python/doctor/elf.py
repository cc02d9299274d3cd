"""What the dynamic loader reads of a shared object, and how it looks for the libraries it needs
(ld.so(8)).

Nothing is loaded or run. Little-endian files of 32 and 64 bits.
"""

from __future__ import annotations

import functools
import mmap
import os
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

PT_LOAD, PT_DYNAMIC = 1, 2
DT_NEEDED, DT_STRTAB, DT_SONAME, DT_RPATH, DT_RUNPATH = 1, 5, 14, 15, 29
DT_VERDEF, DT_VERDEFNUM, DT_VERNEED, DT_VERNEEDNUM = 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF
VER_FLG_WEAK = 2
MACHINES = {3: "i386", 40: "arm", 62: "x86-64", 183: "aarch64", 243: "riscv"}


class NotElf(ValueError):
    """Not an ELF file that we can read: a linker script, a stub, something truncated."""


@dataclass(frozen=True)
class Elf:
    bits: int
    machine: int
    soname: str = ""
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    needed_versions: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # Library: versions.
    defined_versions: frozenset[str] = frozenset()

    @property
    def kind(self) -> str:
        return f"{self.bits}-bit {MACHINES.get(self.machine, f'machine {self.machine}')}"


class _Reader:
    def __init__(self, data):
        self.data = data
        if bytes(data[:4]) != b"\x7fELF" or data[5] != 1 or data[4] not in (1, 2):
            raise NotElf("no little-endian ELF file")
        self.bits = 64 if data[4] == 2 else 32
        self.machine = self.take("<H", 18)[0]
        if self.bits == 64:
            offset, size, count = *self.take("<Q", 32), *self.take("<HH", 54)
        else:
            offset, size, count = *self.take("<I", 28), *self.take("<HH", 42)
        self.segments = [self.segment(offset + i * size) for i in range(count)]

    def take(self, form: str, offset: int) -> tuple:
        return struct.unpack_from(form, self.data, offset)

    def segment(self, at: int) -> tuple[int, int, int, int]:
        """Type, offset in the file, address, size in the file."""
        if self.bits == 64:
            kind, _, offset, address, _, size = self.take("<IIQQQQ", at)
        else:
            kind, offset, address, _, size = self.take("<IIIII", at)
        return kind, offset, address, size

    def offset(self, address: int) -> int:
        for kind, offset, start, size in self.segments:
            if kind == PT_LOAD and start <= address < start + size:
                return offset + address - start
        raise NotElf("an address outside of every segment")

    def dynamic(self) -> Iterator[tuple[int, int]]:
        form, step = ("<qQ", 16) if self.bits == 64 else ("<iI", 8)
        for kind, offset, _, size in self.segments:
            if kind != PT_DYNAMIC:
                continue
            for at in range(offset, offset + size, step):
                tag, value = self.take(form, at)
                if tag == 0:
                    return
                yield tag, value

    def string(self, at: int) -> str:
        end = self.data.find(b"\0", at)
        if not 0 <= end - at < 65536:
            raise NotElf("a string without end")
        return self.data[at:end].decode(errors="surrogateescape")

    def needed_versions(self, at: int, count: int, strings: int) -> dict[str, tuple[str, ...]]:
        found = {}
        for _ in range(count):
            _, versions, library, first, step = self.take("<HHIII", at)
            names, aux = [], at + first
            for _ in range(versions):
                _, flags, _, name, next_aux = self.take("<IHHII", aux)
                if not flags & VER_FLG_WEAK:
                    names.append(self.string(strings + name))
                if next_aux == 0:
                    break
                aux += next_aux
            found[self.string(strings + library)] = tuple(names)
            if step == 0:
                break
            at += step
        return found

    def defined_versions(self, at: int, count: int, strings: int) -> Iterator[str]:
        for _ in range(count):
            _, _, _, _, _, first, step = self.take("<HHHHIII", at)
            yield self.string(strings + self.take("<I", at + first)[0])
            if step == 0:
                break
            at += step


def _parse(data) -> Elf:
    reader = _Reader(data)
    tags: dict[int, list[int]] = {}
    for tag, value in reader.dynamic():
        tags.setdefault(tag, []).append(value)
    if DT_STRTAB not in tags:
        return Elf(reader.bits, reader.machine)
    strings = reader.offset(tags[DT_STRTAB][0])

    def texts(tag: int) -> tuple[str, ...]:
        return tuple(reader.string(strings + value) for value in tags.get(tag, ()))

    def folders(tag: int) -> tuple[str, ...]:
        return tuple(p for text in texts(tag) for p in text.split(":") if p)

    needed_versions, defined = {}, frozenset()
    if DT_VERNEED in tags and DT_VERNEEDNUM in tags:
        at = reader.offset(tags[DT_VERNEED][0])
        needed_versions = reader.needed_versions(at, tags[DT_VERNEEDNUM][0], strings)
    if DT_VERDEF in tags and DT_VERDEFNUM in tags:
        at = reader.offset(tags[DT_VERDEF][0])
        defined = frozenset(reader.defined_versions(at, tags[DT_VERDEFNUM][0], strings))
    return Elf(
        reader.bits,
        reader.machine,
        "".join(texts(DT_SONAME)[:1]),
        texts(DT_NEEDED),
        folders(DT_RPATH),
        folders(DT_RUNPATH),
        needed_versions,
        defined,
    )


@functools.cache
def read(path: str) -> Elf:
    """Raises NotElf or OSError."""
    with open(path, "rb") as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _parse(data)
        except (struct.error, IndexError, ValueError, OverflowError) as error:
            raise NotElf(str(error)) from None


def loader_cache(path: str = "/etc/ld.so.cache") -> dict[str, list[str]]:
    """Library name: files, from ldconfig's cache (glibc's sysdeps/generic/dl-cache.h)."""
    found: dict[str, list[str]] = {}
    try:
        with open(path, "rb") as file:
            data = file.read()
        base = data.index(b"glibc-ld.so.cache1.1")
        (count,) = struct.unpack_from("<I", data, base + 20)
        for i in range(count):
            key, value = struct.unpack_from("<4xII", data, base + 48 + i * 24)
            name, file_name = (
                data[base + at : data.index(b"\0", base + at)].decode(errors="surrogateescape")
                for at in (key, value)
            )
            found.setdefault(name, []).append(file_name)
    except (OSError, ValueError, struct.error):
        pass
    return found


@dataclass(frozen=True)
class Problem:
    """A library, or a version of it, that the loader will not find."""

    library: str
    needed_by: str  # Path of the file that asks for it.
    version: str = ""  # Set: the library is there (`found`), but lacks this version.
    found: str = ""


class Loader:
    """Looks for libraries as ld.so would in a process that runs `executable`."""

    def __init__(self, executable: str, environ: Mapping[str, str], brought=frozenset()):
        # `brought`: names of libraries that packages load themselves, before others need them.
        self.brought = brought
        self.cache = loader_cache()
        self.library_path = [
            p or "." for p in environ.get("LD_LIBRARY_PATH", "").replace(";", ":").split(":")
        ]
        if not environ.get("LD_LIBRARY_PATH"):
            self.library_path = []
        self.default = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"]
        self.native: Elf | None = None
        self.executable_rpath: tuple[str, ...] = ()
        try:
            real = os.path.realpath(executable)
            self.native = read(real)
            if not self.native.runpath:
                self.executable_rpath = self.expand(self.native.rpath, real)
        except (OSError, NotElf):
            pass
        self.memo: dict[tuple[str, tuple[str, ...]], list[Problem]] = {}

    @staticmethod
    def expand(folders: tuple[str, ...], path: str) -> tuple[str, ...]:
        origin = os.path.dirname(os.path.realpath(path))
        lib = "lib64" if sys.maxsize > 2**32 else "lib"
        names = (("$ORIGIN", origin), ("${ORIGIN}", origin), ("$LIB", lib), ("${LIB}", lib))
        return tuple(
            functools.reduce(lambda f, n: f.replace(*n), names, folder) for folder in folders
        )

    def fits(self, path: str, like: Elf) -> bool:
        try:
            elf = read(path)
        except (OSError, NotElf):
            return False
        return (elf.bits, elf.machine) == (like.bits, like.machine)

    def find(self, library: str, path: str, elf: Elf, inherited: tuple[str, ...]) -> str | None:
        """The file that `library` of DT_NEEDED means to the file at `path`."""
        if "/" in library:
            return library if self.fits(library, elf) else None
        folders = [*inherited, *self.library_path, *self.expand(elf.runpath, path)]
        candidates = [f"{folder}/{library}" for folder in folders]
        candidates += self.cache.get(library, [])
        candidates += [f"{folder}/{library}" for folder in self.default]
        return next((c for c in candidates if self.fits(c, elf)), None)

    def rpaths(
        self, elf: Elf, path: str, inherited: tuple[str, ...]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Folders of RPATH that pass down to what is loaded for this file, and those that are
        searched for it: RPATH counts only without RUNPATH.
        """
        own = () if elf.runpath else self.expand(elf.rpath, path)
        passed = tuple(dict.fromkeys((*own, *inherited)))
        searched = () if elf.runpath else tuple(dict.fromkeys((*passed, *self.executable_rpath)))
        return passed, searched

    def problems(self, path: str, inherited: tuple[str, ...] = ()) -> list[Problem]:
        """What loading `path` will miss, libraries of libraries included.

        Raises NotElf or OSError for `path` itself.
        """
        elf = read(path)
        inherited, searched = self.rpaths(elf, path, inherited)
        key = (os.path.realpath(path), inherited)
        if key in self.memo:
            return self.memo[key]
        found = self.memo[key] = []
        for library in elf.needed:
            file = self.find(library, path, elf, searched)
            if file is None:
                if library not in self.brought:
                    found.append(Problem(library, path))
                continue
            defined = read(file).defined_versions
            if defined and library not in self.brought:
                for version in elf.needed_versions.get(library, ()):
                    if version not in defined:
                        found.append(Problem(library, path, version, file))
            found += [p for p in self.problems(file, inherited) if p not in found]
        return found

    def closure(self, path: str, inherited: tuple[str, ...] = ()) -> set[str]:
        """`path` and all that the loader loads for it, as far as it finds it."""
        found: set[str] = set()

        def visit(path: str, inherited: tuple[str, ...]) -> None:
            if path in found:
                return
            try:
                elf = read(path)
            except (OSError, NotElf):
                return
            found.add(path)
            passed, searched = self.rpaths(elf, path, inherited)
            for library in elf.needed:
                file = self.find(library, path, elf, searched)
                if file is not None:
                    visit(file, passed)

        visit(path, inherited)
        return found
