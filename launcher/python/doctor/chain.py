"""An exception and what it was raised from, as data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

OURS = os.path.join(os.path.dirname(__file__), "")


@dataclass(frozen=True)
class Frame:
    file: str
    line: int
    module: str  # Its __name__.
    function: str  # "<module>" for a module's body.


def exceptions(error: BaseException) -> list[BaseException]:
    """`error` first, what went wrong first last."""
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        after = current.__cause__
        if after is None and not current.__suppress_context__:
            after = current.__context__
        current = after
    return found


def frames(error: BaseException) -> Iterator[Frame]:
    """Outermost first; importlib's own, <...> and ours are left out."""
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        if not code.co_filename.startswith(("<", OURS)):
            name = step.tb_frame.f_globals.get("__name__")
            yield Frame(code.co_filename, step.tb_lineno, str(name), code.co_name)
        step = step.tb_next


def all_frames(error: BaseException) -> list[Frame]:
    return list(dict.fromkeys(f for e in exceptions(error) for f in frames(e)))


def describe(error: BaseException) -> str:
    """'ImportError: no (file.py:3)', on one line."""
    text = " ".join(_text(error).split())
    if len(text) > 600:
        text = text[:600] + "..."
    last = list(frames(error))[-1:]
    where = f" ({last[0].file}:{last[0].line})" if last else ""
    return f"{type(error).__name__}{': ' if text else ''}{text}{where}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # Its __str__ is someone else's code.
        return ""


def text(error: BaseException) -> str:
    """Everything that the chain says."""
    return "\n".join(_text(e) for e in exceptions(error))
