"""What the program sets, and cannot any more, since a preload entry has set it before.

The program is read, not run: its own file only.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .model import WARNING, Finding, Surroundings

FAMILY = "preloading"
# Calls by their last name, a module that the program's file must name, the state that they set
# (state.py), what becomes of them, and what to do.
SETTERS = (
    (
        "set_start_method",
        "multiprocessing",
        "multiprocessing's start method",
        "fails with 'context has already been set'",
        "put a 'call' of a function of yours that sets it in front, or say force=True",
    ),
    (
        "basicConfig",
        "logging",
        "logging's root handlers",
        "does nothing, since there are handlers",
        "say force=True, or leave the entry out",
    ),
)
# Likewise calls that patch modules, with the entry that does it in time.
PATCHES = (
    ("patch_all", "gevent", "call gevent.monkey:patch_all"),
    ("monkey_patch", "eventlet", "call eventlet:monkey_patch"),
)


def _calls(s: Surroundings) -> Iterator[tuple[str, int, str]]:
    """Last name and line of each call in the program's file, and the file's text. Calls with
    `force=True` always do what they say, and are left out.
    """
    try:
        with open(s.script, encoding="utf-8", errors="replace") as file:
            text = file.read()
        tree = ast.parse(text)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            forced = any(x.arg == "force" for x in node.keywords)
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if not forced:
                yield name, node.lineno, text


def check(s: Surroundings, results: list[tuple[dict, dict]]) -> list[Finding]:
    """`results`: entries in their order, each with what came of it (entries.py)."""
    if not s.script.endswith(".py"):
        return []
    found = []
    for name, line, text in _calls(s):
        for setter, module, state, becomes, hint in SETTERS:
            by = [(e, r) for e, r in results if state in r.get("changed", {})]
            if name == setter and module in text and by:
                entry, result = by[-1]
                cause = f"{_where(entry)} has set {state} ({result['changed'][state]})"
                what = f"{s.script}:{line}: {setter}() can set {state}"
                found.append(Finding(FAMILY, WARNING, what, f"{cause}; the call {becomes}", hint))
        for patch, module, instead in PATCHES:
            if name == patch and module in text and (late := _holding(results, instead)):
                entry, (holder, thing) = late
                what = f"{s.script}:{line}: {module} can patch {thing} in time"
                cause = f"{_where(entry)} has loaded {holder}, which has {thing} unpatched for good"
                hint = f"put '{instead}' first into the preload file"
                found.append(Finding(FAMILY, WARNING, what, cause, hint))
    return found


def _where(entry: dict) -> str:
    return f"{entry['source']}:{entry['line']}:{entry['column']}: '{entry['text']}'"


def _holding(results: list[tuple[dict, dict]], instead: str) -> tuple[dict, list[str]] | None:
    """The first entry with a module that holds such a thing; none where `instead` comes first."""
    for entry, result in results:
        if entry["text"].strip() == instead:
            return None
        if result.get("holds"):
            return entry, result["holds"]
    return None
