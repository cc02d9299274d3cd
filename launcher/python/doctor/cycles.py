"""A circular import, told as the chain of files and lines."""

from __future__ import annotations

import re

from . import chain

PARTIAL = re.compile(r"partially initialized module '([\w.]+)'")
HINT = (
    "import in one of these files where it is used (inside the function), "
    "or move what both need into a third"
)


def explain(error: BaseException) -> tuple[str, str] | None:
    """Cause and hint if `error` or what it was raised from met a half-imported module."""
    for one in chain.exceptions(error):
        partial = PARTIAL.search(chain.text(one))
        if partial is None:
            continue
        name = partial.group(1)
        bodies = [f for f in chain.all_frames(error) if f.function == "<module>"]
        starts = [i for i, f in enumerate(bodies) if f.module == name]
        links = bodies[starts[0] :] if starts else bodies
        if not starts or len(links) < 1:
            continue
        told = " imports ".join(f"{f.module} ({f.file}:{f.line})" for f in links)
        return (
            f"circular import: {told} imports {name}, of which only the lines above have run",
            HINT,
        )
    return None
