"""Which symbols a shared object asks for, and which it defines (gABI chapter 4; GNU hash tables as
in glibc's elf/dl-lookup.c). 64-bit files only; of others nothing is known."""

from __future__ import annotations

import contextlib
import functools
import mmap
import struct
from collections.abc import Iterable, Iterator

from . import elf

DT_SYMTAB, DT_GNU_HASH = 6, 0x6FFFFEF5
STB_GLOBAL = 1
SYMBOL = struct.Struct("<IBBHQQ")  # Name, binding and type, visibility, section, value, size.


class Table:
    """The symbols of one file. Raises NotElf where it has no table that we can read."""

    def __init__(self, data):
        self.reader = reader = elf._Reader(data)
        if reader.bits != 64:
            raise elf.NotElf("no 64-bit file")
        tags = dict(reader.dynamic())
        try:
            places = [reader.offset(tags[x]) for x in (elf.DT_STRTAB, DT_SYMTAB, DT_GNU_HASH)]
        except KeyError:
            raise elf.NotElf("no table of symbols") from None
        self.strings, self.symbols, table = places
        self.buckets, self.first, words, self.shift = reader.take("<IIII", table)
        self.bloom, self.words = table + 16, words
        self.bucket = self.bloom + 8 * words
        self.chain = self.bucket + 4 * self.buckets

    def symbol(self, index: int) -> tuple[str, int, int]:
        """Name, binding, section (0: not defined here)."""
        name, info, _, section, _, _ = SYMBOL.unpack_from(
            self.reader.data, self.symbols + index * SYMBOL.size
        )
        return self.reader.string(self.strings + name), info >> 4, section

    def wanted(self) -> set[str]:
        """Those that somebody else must define. They stand in front of what is hashed."""
        found = (self.symbol(i) for i in range(1, self.first))
        return {name for name, binding, section in found if binding == STB_GLOBAL and not section}

    def defines(self, name: str, code: int) -> bool:
        (word,) = self.reader.take("<Q", self.bloom + 8 * (code // 64 % self.words))
        if not (word >> code % 64) & (word >> (code >> self.shift) % 64) & 1:
            return False
        (index,) = self.reader.take("<I", self.bucket + 4 * (code % self.buckets))
        while index >= self.first:
            (chained,) = self.reader.take("<I", self.chain + 4 * (index - self.first))
            if chained | 1 == code | 1:
                there, _, section = self.symbol(index)
                if there == name and section:
                    return True
            if chained & 1:
                return False
            index += 1
        return False


@functools.lru_cache(maxsize=4096)
def _code(name: str) -> int:
    code = 5381
    for byte in name.encode(errors="surrogateescape"):
        code = (code * 33 + byte) & 0xFFFFFFFF
    return code


# What becomes of a file that is no such file, or is damaged.
_UNREADABLE = (OSError, ValueError, IndexError, OverflowError, struct.error, ZeroDivisionError)


@contextlib.contextmanager
def _table(path: str) -> Iterator[Table]:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield Table(data)


def wanted(path: str) -> set[str]:
    try:
        with _table(path) as table:
            return table.wanted()
    except _UNREADABLE:
        return set()


def not_defined(names: set[str], paths: Iterable[str]) -> set[str] | None:
    """What of `names` no file of `paths` defines. None: one of them cannot be read."""
    left = set(names)
    for path in paths:
        if not left:
            break
        try:
            with _table(path) as table:
                left = {name for name in left if not table.defines(name, _code(name))}
        except _UNREADABLE:
            return None
    return left
