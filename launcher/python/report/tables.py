"""--report FILE.json: the format is described in docs/report.md."""

from __future__ import annotations

import json

from .journal import Journal
from .model import CODE, MEMORY, Model, Node, build

VERSION = 1


def text(log: Journal) -> str:
    return json.dumps(tables(build(log)), indent=1) + "\n"


def tables(model: Model) -> dict:
    log = model.log
    modules = [n for n in model.nodes if not n.entry]
    return {
        "version": VERSION,
        "generator": f"pylaunch {log.pylaunch}",
        "command": [_text(word) for word in log.argv],
        "python": log.python.partition(" ")[0],
        "complete": not log.full,
        "meaning": {"memory": MEMORY, "code_bytes": CODE},
        "start_ms": _ms(model.start_ns),
        "preload_ms": _ms(model.preload_ns),
        "program_ms": _ms(model.program_ns),
        "archive": {
            "used": log.archive_used,
            "hits": sum(n.archive == "hit" for n in modules),
            "misses": sum(n.archive.startswith("miss") for n in modules),
        },
        "threads": [_thread(model, index) for index in range(len(log.threads))],
        "entries": [_entry(n) for n in model.nodes if n.entry],
        "modules": [_module(n) for n in modules],
    }


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 3)


def _text(text: str) -> str:
    """Without the stand-ins of bytes that are no UTF-8, which no JSON reader wants."""
    return text.encode("utf-8", "backslashreplace").decode()


def _thread(model: Model, index: int) -> dict:
    thread = model.log.threads[index]
    roots = model.roots(index)
    return {
        "name": _text(thread.name),
        "tid": thread.tid,
        "main": thread.main,
        "modules": sum(n.modules for n in roots),
        "import_ms": _ms(sum(n.total_ns for n in roots)),
    }


def _entry(node: Node) -> dict:
    return {
        "id": node.index,
        "entry": _text(node.name),
        "where": _text(node.where),
        "outcome": node.outcome,
        "begin_ms": _ms(node.begin_ns),
        "total_ms": _ms(node.total_ns),
        "memory": node.total_memory,
        "modules": node.modules,
    }


def _module(node: Node) -> dict:
    return {
        "id": node.index,
        "parent": node.parent if node.parent >= 0 else None,
        "name": _text(node.name),
        "outcome": node.outcome,
        "kind": node.kind,
        "phase": node.phase,
        "thread": node.thread,
        "begin_ms": _ms(node.begin_ns),
        "total_ms": _ms(node.total_ns),
        "self_ms": _ms(node.self_ns),
        "memory": node.total_memory,
        "self_memory": node.self_memory,
        "code_bytes": node.code_bytes,
        "archive": node.archive,
        "modules": node.modules,
        "file": _text(node.file),
        "lazy": node.lazy,
    }
