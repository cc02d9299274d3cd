"""Tries the entries of --preload, as the engine would, but in another process: an import may
crash.
"""

from __future__ import annotations

import builtins
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable

from . import backends, chain, late_settings, state
from .distributions import Inventory
from .model import FAILURE, OK, WARNING, Finding, Surroundings

FAMILY = "entries"
KINDS = ("import", "from", "call")


def statement(entry: dict) -> str:
    if entry["kind"] == KINDS.index("import"):
        return f"import {entry['module']}"
    return f"from {entry['module']} import {', '.join(entry['names'])}"


# ------------------------------------------------------------ in the child


class Tries:
    """Made while isolated. run() is not, and imports nothing before an entry has failed."""

    def __init__(self, request: dict, surroundings: Surroundings):
        self.request = request
        self.surroundings = surroundings
        self.out = request["out"]
        self.dumps = json.JSONEncoder().encode

    def run(self, explain: Callable) -> None:
        # `explain` isolates itself; what this method needs was imported before.
        for entry in self.request["entries"]:
            result = {"index": entry["index"]}
            modules, before = set(sys.modules), state.look(signals=True)
            kept = dict(os.environ)
            for name, value, only_if_unset in entry["env"]:
                if not only_if_unset or name not in os.environ:
                    os.environ[name] = value
            try:
                result.update(self.load(entry))
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                result.update(
                    status="failed",
                    missing=_is_missing(error, entry),
                    **self.told(explain, entry, error),
                )
            os.environ.clear()
            os.environ.update(kept)
            result["changed"] = state.changes(before, state.look(signals=True))
            result["holds"] = state.held_unpatched(set(sys.modules) - modules)
            os.write(self.out, (self.dumps(result) + "\n").encode())

    def load(self, entry: dict) -> dict:
        names: dict = {"__builtins__": builtins, "__name__": "__pylaunch_preload__"}
        exec(
            compile(statement(entry), f"<preload {entry['source']}:{entry['line']}>", "exec"), names
        )
        for name in entry["names"]:
            lacks = backends.of_placeholder(names.get(name))
            if lacks:
                return {"status": "placeholder", "name": name, "backends": lacks}
        if entry["kind"] == KINDS.index("call") and not callable(names.get(entry["names"][0])):
            cause = f"'{entry['names'][0]}' cannot be called"
            return {"status": "failed", "cause": cause, "hint": "name a function of no arguments"}
        return {"status": "ok"}

    def told(self, explain: Callable, entry: dict, error: BaseException) -> dict:
        first = chain.exceptions(error)[-1]
        said = chain.describe(first)
        if isinstance(error, SystemExit):
            return {
                "cause": f"the module ended the program ({said})",
                "hint": f"look at {entry['module']}",
            }
        try:
            explanation = explain(entry, error)
        except Exception as trouble:  # Better a plain diagnosis than none.
            explanation = None
            said += f"; its diagnosis failed too: {chain.describe(trouble)}"
        if explanation:
            return {"cause": f"{explanation[0]}; Python says: {said}", "hint": explanation[1]}
        if isinstance(first, ModuleNotFoundError) and first.name and "." not in first.name:
            hint = f"install the package that has '{first.name}' into {sys.prefix}"
        else:
            hint = f"see the whole traceback with: {sys.executable} -c '{statement(entry)}'"
        return {"cause": said, "hint": hint}


def _is_missing(error: BaseException, entry: dict) -> bool:
    """The module or the name itself is not there, as opposed to broken (preload/failure.cc)."""
    root = chain.exceptions(error)[-1]
    name = getattr(root, "name", None) or ""
    if isinstance(root, ModuleNotFoundError):
        return entry["module"] == name or entry["module"].startswith(f"{name}.")
    return (
        isinstance(root, ImportError)
        and name == entry["module"]
        and "cannot import name" in str(root)
    )


# ------------------------------------------------------------ in the parent


def _python_options(main: str) -> list[str]:
    """Those that this Python was started with."""
    words = sys.orig_argv[1:]
    return words[: words.index(main)] if main in words else []


def _run_child(request: dict, words: list[str], main: str, told: Callable) -> tuple[int, set[int]]:
    """Returns how the child ended, and which entries it has answered for."""
    read, write = os.pipe()
    answered = set()
    with tempfile.TemporaryFile() as file:
        file.write(json.dumps({**request, "child": True, "out": write}).encode())
        file.flush()
        number = file.fileno()
        command = [sys.executable, *_python_options(main), main, str(number), *words]
        # What modules print is noise here: stdout is the report's.
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=2, pass_fds=(number, write)
        )
        os.close(write)
        with os.fdopen(read, encoding="utf-8", errors="replace") as results:
            for line in results:
                result = json.loads(line)
                answered.add(result["index"])
                told(result)
        return child.wait(), answered


def check(
    request: dict,
    s: Surroundings,
    inventory: Inventory,
    words: list[str],
    main: str,
    progress: Callable,
) -> list[Finding]:
    entries = [{**entry, "index": i} for i, entry in enumerate(request.get("entries", []))]
    found: dict[int, Finding] = {}

    results: list[tuple[dict, dict]] = []

    def told(result: dict) -> None:
        entry = entries[result["index"]]
        results.append((entry, result))
        found[result["index"]] = _finding(s, inventory, entry, result)
        progress(len(found), len(entries), entry["text"])

    left = entries
    while left:
        progress(len(found), len(entries), left[0]["text"])
        code, answered = _run_child({**request, "entries": left}, words, main, told)
        if code == 0 and len(answered) == len(left):
            break
        left = [e for e in left if e["index"] not in answered]
        if left:
            crashed = left.pop(0)
            result = {"status": "failed", "cause": _ending(code), "hint": _trace_hint(s, crashed)}
            told({"index": crashed["index"], **result})
    return [found[i] for i in sorted(found)] + late_settings.check(s, results)


def _ending(code: int) -> str:
    if code < 0:
        return f"the process was ended by {signal.Signals(-code).name} while it was imported"
    return f"the process ended with exit code {code} while it was imported"


def _trace_hint(s: Surroundings, entry: dict) -> str:
    return f"see where with: {s.python} -X faulthandler -c '{statement(entry)}'"


def _finding(s: Surroundings, inventory: Inventory, entry: dict, result: dict) -> Finding:
    what = f"{entry['source']}:{entry['line']}:{entry['column']}: '{entry['text']}' loads"
    if result["status"] == "ok":
        changed = result.get("changed", {})
        sets = f", and sets {state.in_words(changed)}" if changed else ""
        return Finding(FAMILY, OK, what + sets, details={"sets": changed} if changed else {})
    cause, hint = result.get("cause", ""), result.get("hint", "")
    missing = result.get("missing", False)
    if result["status"] == "placeholder":
        cause, hint = backends.explain_missing(s, inventory, result["name"], result["backends"])
        missing = True
    if entry["optional"]:
        if missing:
            return Finding(
                FAMILY,
                OK,
                f"{what.removesuffix('loads')}is optional, and missing",
                details={"cause": cause},
            )
        return Finding(FAMILY, WARNING, what, cause, hint)
    return Finding(FAMILY, FAILURE, what, cause, f"{hint}, or mark the entry 'optional'")
