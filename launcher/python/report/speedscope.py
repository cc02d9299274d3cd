"""--report FILE.speedscope.json: one evented profile a thread, for https://www.speedscope.app.

Format: speedscope's src/lib/file-format-spec.ts.
"""

from __future__ import annotations

import json

from .journal import Journal
from .model import Model, Node, build

SCHEMA = "https://www.speedscope.app/file-format-schema.json"


def text(log: Journal) -> str:
    return json.dumps(profile(build(log)), separators=(",", ":")) + "\n"


def profile(model: Model) -> dict:
    frames: dict[tuple[str, str], int] = {}
    profiles = [_thread(model, index, frames) for index in range(len(model.log.threads))]
    return {
        "$schema": SCHEMA,
        "name": _text(model.title),
        "exporter": f"pylaunch@{model.log.pylaunch}",
        "activeProfileIndex": 0,
        "shared": {"frames": [_frame(name, file) for name, file in frames]},
        "profiles": [p for p in profiles if p["events"]] or profiles[:1],
    }


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _frame(name: str, file: str) -> dict:
    return {"name": _text(name), "file": _text(file)} if file else {"name": _text(name)}


def _thread(model: Model, index: int, frames: dict) -> dict:
    events: list[dict] = []

    def at(nanoseconds: int) -> float:
        return round(nanoseconds / 1e3, 3)

    # Not recursive: imports nest deeper than Python likes to.
    todo: list[tuple[Node, bool]] = [(root, True) for root in reversed(model.roots(index))]
    while todo:
        node, opens = todo.pop()
        name = node.name if node.outcome == "loaded" else f"{node.name} ({node.outcome})"
        frame = frames.setdefault((name, node.file), len(frames))
        events.append(
            {
                "type": "O" if opens else "C",
                "frame": frame,
                "at": at(node.begin_ns if opens else node.end_ns),
            }
        )
        if opens:
            todo.append((node, False))
            todo += [(model.nodes[i], True) for i in reversed(node.children)]
    return {
        "type": "evented",
        "name": _text(model.log.threads[index].name),
        "unit": "microseconds",
        "startValue": 0,
        "endValue": at(max([model.end_ns, *(e["at"] * 1e3 for e in events[-1:])])),
        "events": events,
    }
