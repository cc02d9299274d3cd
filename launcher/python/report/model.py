"""Times, memory and origins of what was imported: what all kinds of --report show."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass, field

from .journal import (
    ABSENT,
    CORRUPT,
    ENTRY,
    FAILED,
    HIT,
    LOADED,
    NOT_FOUND,
    STALE,
    Event,
    Journal,
)

MEMORY = (
    "growth of the process's resident set while the module was imported, in whole pages; what other"
    " threads allocate meanwhile counts too"
)
CODE = "bytes of bytecode; of an extension module, the size of its file"
KINDS = {
    "SourceFileLoader": "source",
    "SourcelessFileLoader": "bytecode",
    "ExtensionFileLoader": "extension",
    "BuiltinImporter": "built-in",
    "FrozenImporter": "frozen",
    "NamespaceLoader": "namespace",
    "_NamespaceLoader": "namespace",
    "": "namespace",
}
NOT_FOR_THE_ARCHIVE = {
    "bytecode": "bytecode file without source",
    "extension": "extension module",
    "namespace": "namespace package",
}
PYC_HEADER = 16


@dataclass
class Node:
    """A module, or an entry of the preload file, with what it needed inside it."""

    index: int
    name: str
    entry: bool  # Of the preload file, not a module.
    where: str  # Of an entry: file, line, column.
    parent: int  # -1: none
    thread: int
    phase: str  # "start", "preload" or "program"
    outcome: str  # "loaded", "failed", "not found" or "unfinished"
    kind: str  # one of KINDS, "alias" (set by another module), "other", or "" for an entry
    file: str
    lazy: bool  # Somebody looked at a name that an import had left pending.
    archive: str  # "hit", "miss: why" or "-: why" for what an archive does not hold
    begin_ns: int  # since the start
    end_ns: int
    total_memory: int
    code_bytes: int
    self_ns: int = 0
    self_memory: int = 0
    modules: int = 0  # loaded here and inside
    children: list[int] = field(default_factory=list)

    @property
    def total_ns(self) -> int:
        return self.end_ns - self.begin_ns


@dataclass
class Model:
    log: Journal
    nodes: list[Node]
    start_ns: int  # how long the interpreter took to start, ...
    preload_ns: int  # ...the preload,
    program_ns: int  # ...and the program, its imports included
    end_ns: int

    @property
    def title(self) -> str:
        return " ".join([os.path.basename(self.log.argv[0]), *self.log.argv[1:]][:40])

    def roots(self, thread: int) -> list[Node]:
        return [n for n in self.nodes if n.parent < 0 and n.thread == thread]


def build(log: Journal) -> Model:
    nodes = [_node(log, event) for event in log.events]
    _nest(nodes)
    started = log.started_ns
    preloaded = log.preload_ns or log.program_ns or log.ended_ns
    began = log.program_ns or log.ended_ns
    ended = log.ended_ns
    return Model(log, nodes, preloaded - started, began - preloaded, ended - began, ended - started)


def _node(log: Journal, event: Event) -> Node:
    end = event.end_ns or log.ended_ns
    kind = "" if event.kind == ENTRY else _kind(event)
    return Node(
        index=event.index,
        name=event.name,
        entry=event.kind == ENTRY,
        where=event.where,
        parent=event.parent,
        thread=event.thread,
        phase=_phase(log, event),
        outcome=_outcome(event),
        kind=kind,
        file=event.origin if event.body else "",
        lazy=event.lazy,
        archive=_archive(log, event, kind) if event.body else "",
        begin_ns=event.begin_ns - log.started_ns,
        end_ns=end - log.started_ns,
        total_memory=event.end_rss - event.begin_rss if event.end_ns else 0,
        code_bytes=_code_bytes(log, event, kind),
        modules=int(event.body and event.outcome == LOADED),
    )


def _phase(log: Journal, event: Event) -> str:
    if log.program_ns and event.begin_ns >= log.program_ns:
        return "program"
    return "preload" if log.preload_ns and event.begin_ns >= log.preload_ns else "start"


def _outcome(event: Event) -> str:
    return {LOADED: "loaded", FAILED: "failed", NOT_FOUND: "not found"}.get(
        event.outcome, "unfinished"
    )


def _kind(event: Event) -> str:
    if event.body:
        return KINDS.get(event.loader, "other")
    return "alias" if event.outcome == LOADED else ""


def _archive(log: Journal, event: Event, kind: str) -> str:
    if not log.archive_used:
        return "off"
    known = {
        HIT: "hit",
        ABSENT: "miss: not in it yet",
        STALE: "miss: the source has changed",
        CORRUPT: "miss: the archive is corrupt",
    }
    if event.archive in known:
        return known[event.archive]
    if kind == "source":
        return "miss: not asked, CPython's own finder found it"
    if kind == "other":
        return f"-: {event.loader} finds its own code"
    return f"-: {NOT_FOR_THE_ARCHIVE.get(kind, kind)}"


def _code_bytes(log: Journal, event: Event, kind: str) -> int:
    if event.code_bytes or not event.body:
        return event.code_bytes
    try:
        if kind == "source":
            level = log.optimize or ""
            pyc = importlib.util.cache_from_source(event.origin, optimization=level)
            return max(0, os.stat(pyc).st_size - PYC_HEADER)
        if kind in ("extension", "bytecode"):
            return os.stat(event.origin).st_size
    except (OSError, ValueError, NotImplementedError):
        pass
    return 0


def _nest(nodes: list[Node]) -> None:
    """Puts children inside their parents, one after the other; greenlets may have mixed them up."""
    for node in nodes:
        if node.parent < 0:
            continue
        parent = nodes[node.parent]
        before = nodes[parent.children[-1]].end_ns if parent.children else parent.begin_ns
        node.begin_ns = min(max(node.begin_ns, before), parent.end_ns)
        node.end_ns = min(max(node.end_ns, node.begin_ns), parent.end_ns)
        parent.children.append(node.index)
    for node in reversed(nodes):
        children = [nodes[i] for i in node.children]
        node.self_ns = node.total_ns - sum(child.total_ns for child in children)
        node.self_memory = node.total_memory - sum(child.total_memory for child in children)
        node.modules += sum(child.modules for child in children)
