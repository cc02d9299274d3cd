"""The journal as the engine hands it over (engine/journal: journal.h, journal_report.cc)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

MAGIC = b"PLJ1"
IMPORT, ENTRY = 0, 1  # JournalEvent::Kind
UNFINISHED, LOADED, NOT_FOUND, FAILED = range(4)  # JournalEvent::Outcome
NOT_ASKED, HIT, ABSENT, STALE, CORRUPT = range(5)  # ArchiveAnswer


@dataclass
class Thread:
    name: str
    tid: int
    main: bool


@dataclass
class Event:
    """JournalEvent, field by field; and `index`."""

    index: int
    kind: int
    outcome: int
    name: str
    thread: int
    parent: int
    begin_ns: int
    end_ns: int
    begin_rss: int
    end_rss: int
    body: bool
    own: bool
    origin: str
    loader: str
    archive: int
    code_bytes: int
    where: str
    request: bool
    file: str
    function: str
    line: int
    by_own: bool
    symbol_module: str
    symbol: str
    symbol_found: bool


@dataclass
class Journal:
    record: str = ""
    report: str = ""
    pylaunch: str = ""
    python: str = ""
    argv: list[str] = field(default_factory=list)
    command: str = ""  # of -c
    main_file: str = ""  # __main__.__file__
    optimize: int = 0
    prefix: str = ""
    path_before: list[str] = field(default_factory=list)  # sys.path when the program began
    path_after: list[str] = field(default_factory=list)
    archive_used: bool = False
    started_ns: int = 0
    preload_ns: int = 0
    program_ns: int = 0
    ended_ns: int = 0
    full: bool = False
    threads: list[Thread] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    settings: list[tuple[str, str, bool]] = field(default_factory=list)  # of --preload
    entries: list[tuple[str, str]] = field(default_factory=list)  # of --preload: text, where
    variables: list[tuple[str, str, int]] = field(default_factory=list)  # name, value, next event
    modules: set[str] = field(default_factory=set)  # sys.modules at the end
    lazy: dict[str, set[str]] = field(default_factory=dict)  # lazy modules and their symbols


class Reader:
    """What cache/wire.h writes, on a little-endian machine."""

    def __init__(self, data: bytes):
        self.data = memoryview(data)
        self.at = 0

    def raw(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise ValueError("the journal is cut off")
        self.at += size
        return bytes(self.data[self.at - size : self.at])

    def number(self, kind: str) -> int:
        return struct.unpack(f"<{kind}", self.raw(struct.calcsize(f"<{kind}")))[0]

    def flag(self) -> bool:
        return self.number("B") != 0

    def text(self) -> str:
        return self.raw(self.number("Q")).decode("utf-8", "surrogateescape")

    def list(self, element) -> list:
        return [element() for _ in range(self.number("Q"))]


def _event(r: Reader, index: int) -> Event:
    n = r.number
    return Event(
        index,
        n("B"),
        n("B"),
        r.text(),
        *(n("i"), n("i")),
        *(n("q"), n("q"), n("q"), n("q")),
        *(r.flag(), r.flag()),
        *(r.text(), r.text()),
        *(n("B"), n("Q")),
        r.text(),
        r.flag(),
        *(r.text(), r.text(), n("i"), r.flag()),
        *(r.text(), r.text(), r.flag()),
    )


def read(data: bytes) -> Journal:
    r = Reader(data)
    if r.raw(len(MAGIC)) != MAGIC:
        raise ValueError("the engine and what writes its reports are of different versions")
    j = Journal()
    j.record, j.report, j.pylaunch, j.python = r.text(), r.text(), r.text(), r.text()
    j.argv = r.list(r.text)
    j.command, j.main_file, j.optimize = r.text(), r.text(), r.number("i")
    j.prefix, j.path_before, j.path_after = r.text(), r.list(r.text), r.list(r.text)
    j.archive_used = r.flag()
    j.started_ns, j.preload_ns, j.program_ns, j.ended_ns = (r.number("q") for _ in range(4))
    j.full = r.flag()
    j.threads = r.list(lambda: Thread(r.text(), r.number("q"), r.flag()))
    j.events = [_event(r, index) for index in range(r.number("Q"))]
    j.settings = r.list(lambda: (r.text(), r.text(), r.flag()))
    j.entries = r.list(lambda: (r.text(), r.text()))
    j.variables = r.list(lambda: (r.text(), r.text(), r.number("i")))
    j.modules = set(r.list(r.text))
    j.lazy = dict(r.list(lambda: (r.text(), set(r.list(r.text)))))
    if r.at != len(data):
        raise ValueError("the journal is longer than it should be")
    return j
