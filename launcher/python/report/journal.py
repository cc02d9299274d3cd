"""The journal as the engine hands it over: JSON, whose names are those of the classes here.

launcher/engine/journal: journal.h says what each is, journal_report.cc writes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

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
    """JournalEvent and its Requester; and `index`."""

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
    lazy: bool
    file: str
    function: str
    line: int
    by_own: bool
    symbol_module: str
    symbol: str
    symbol_found: bool


@dataclass
class Setting:
    """EnvSetting, of --preload."""

    name: str
    value: str
    only_if_unset: bool


@dataclass
class Variable:
    """VariableChange."""

    name: str
    value: str


@dataclass
class Journal:
    record: str
    report: str
    pylaunch: str
    python: str
    argv: list[str]
    command: str  # of -c
    main_file: str  # __main__.__file__
    optimize: int
    prefix: str
    path_before: list[str]  # sys.path when the program began
    path_after: list[str]
    archive_used: bool
    started_ns: int
    preload_ns: int
    program_ns: int
    ended_ns: int
    full: bool
    threads: list[Thread]
    events: list[Event]
    settings: list[Setting]
    directives: list[str]  # of --preload: "use image"
    entries: list[str]  # of --preload, as written
    variables: list[Variable]
    modules: set[str]  # sys.modules at the end
    lazy: dict[str, set[str]]  # lazy modules and their symbols


def read(data: bytes) -> Journal:
    fields = json.loads(data.decode("utf-8", "surrogateescape"))
    try:
        fields["threads"] = [Thread(**thread) for thread in fields["threads"]]
        fields["events"] = [Event(index, **event) for index, event in enumerate(fields["events"])]
        fields["settings"] = [Setting(**setting) for setting in fields["settings"]]
        fields["variables"] = [Variable(**variable) for variable in fields["variables"]]
        fields["modules"] = set(fields["modules"])
        fields["lazy"] = {name: set(symbols) for name, symbols in fields["lazy"].items()}
        return Journal(**fields)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"the engine and what writes its reports are of different versions ({error})"
        ) from None
