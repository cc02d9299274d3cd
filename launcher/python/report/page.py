"""--report FILE.html: page.html with the figures put in; needs no network."""

from __future__ import annotations

import html
import json
from pathlib import Path

from .journal import Journal
from .model import CODE, MEMORY, Model, build
from .tables import tables

# Modules go as columns and times as integers: a page with 3,500 of them stays below a megabyte.
COLUMNS = {
    "id": "id",
    "parent": "parent",
    "name": "name",
    "thread": "thread",
    "phase": "phase",
    "outcome": "outcome",
    "kind": "kind",
    "archive": "archive",
    "file": "file",
    "lazy": "lazy",
    "begin": "begin_ms",
    "total": "total_ms",
    "self": "self_ms",
    "memory": "memory",
    "selfMemory": "self_memory",
    "code": "code_bytes",
    "modules": "modules",
}
REPEATED = ("phase", "outcome", "kind", "archive")  # Go as indices into a list of what there is.


def text(log: Journal) -> str:
    model = build(log)
    template = Path(__file__).with_name("page.html").read_text("utf-8")
    head, _, rest = template.partition("@@TITLE@@")
    body, _, tail = rest.partition("@@DATA@@")
    title = model.title.encode("utf-8", "backslashreplace").decode()
    # "<" could end the script element (HTML, "restrictions for contents of script elements").
    data = json.dumps(_data(model), separators=(",", ":")).replace("<", "\\u003c")
    return "".join((head, html.escape(title), body, data, tail))


def _data(model: Model) -> dict:
    data = tables(model)
    modules = data.pop("modules")
    columns: dict[str, list] = {to: [m[of] for m in modules] for to, of in COLUMNS.items()}
    for name in REPEATED:
        values = sorted(set(columns[name]))
        places = {value: place for place, value in enumerate(values)}
        columns[name] = [places[value] for value in columns[name]]
        data[f"{name}s"] = values
    data["columns"] = columns
    data["meaning"] = {"memory": MEMORY, "code": CODE}
    return data
