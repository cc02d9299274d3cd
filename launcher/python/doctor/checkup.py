"""Runs every family of checks, then the entries, and reports."""

from __future__ import annotations

import json
import os
import sys

from . import (
    compilers,
    entries,
    environments,
    interpreter,
    leftovers,
    native,
    owners,
    records,
    report,
    requirements,
    shadowing,
    variables,
)
from . import model as model
from .distributions import Inventory
from .model import FAILURE, OK, WARNING, Finding, Surroundings


def _files(s: Surroundings, inventory: Inventory) -> list[Finding]:
    contested = owners.contested(inventory)
    found = records.check(s, inventory, contested)
    if contested:
        found = [f for f in found if f.status != OK]
    return owners.check(s, inventory) + found


FAMILIES = (
    ("environment", lambda s, i: environments.check(s)),
    ("interpreter", lambda s, i: interpreter.check(s)),
    ("variables", lambda s, i: variables.check(s)),
    ("shadowing", shadowing.check),
    ("installations", leftovers.check),
    ("files", _files),
    ("requirements", requirements.check),
    ("native code", native.check),
    ("compilers", compilers.check),
)


def read_request(descriptor: int) -> dict:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return json.loads(file.read())


def run(request: dict, s: Surroundings, main: str) -> int:
    progress = report.Progress(s.environ)
    inventory = Inventory(s.folders)
    findings: list[Finding] = []
    wanted = request.get("entries", [])
    steps = len(FAMILIES) + len(wanted)
    for done, (name, check) in enumerate(FAMILIES):
        progress.show(done, steps, name)
        try:
            findings += check(s, inventory)
        except Exception as error:  # A check of ours that breaks must not hide the others.
            cause = f"{type(error).__name__}: {error}"
            findings.append(
                Finding(
                    name,
                    WARNING,
                    f"the checks of {name} ran",
                    cause,
                    "report it as a bug of pylaunch",
                )
            )
    if wanted:
        findings += entries.check(
            request,
            s,
            inventory,
            sys.argv[2:],
            main,
            lambda done, of, text: progress.show(len(FAMILIES) + done, steps, text),
        )
    progress.clear()
    version = ".".join(str(part) for part in sys.version_info[:3])
    if request.get("json"):
        facts = {
            "python": s.python,
            "version": version,
            "prefix": s.prefix,
            "why": s.why,
            "path": s.path,
        }
        report.write(report.as_json(facts, findings))
    else:
        head = f"{s.python}: Python {version}" + (f" ({s.why})" if s.why else "")
        report.write(report.as_text(head, findings, report.colour_wanted(s.environ)))
    return 1 if any(f.status == FAILURE for f in findings) else 0


__all__ = ["OK", "read_request", "run"]
