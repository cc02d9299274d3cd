"""Findings as text for people or JSON for programs, and the progress of finding them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping

from .model import FAILURE, OK, WARNING, Finding

SIGNS = {OK: "✓", WARNING: "!", FAILURE: "✗"}
COLOURS = {OK: "32", WARNING: "33", FAILURE: "31"}


def _printable(text: str) -> str:
    """Control characters of file names and messages as escapes."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def _sign(status: str, colour: bool) -> str:
    return f"\033[{COLOURS[status]}m{SIGNS[status]}\033[0m" if colour else SIGNS[status]


def as_text(python: str, findings: list[Finding], colour: bool) -> str:
    lines = [python]
    for finding in findings:
        lines.append(f"{_sign(finding.status, colour)} {_printable(finding.what)}")
        if finding.status != OK:
            lines += [
                f"  cause: {_printable(finding.cause)}",
                f"  hint:  {_printable(finding.hint)}",
            ]
    failures = sum(f.status == FAILURE for f in findings)
    warnings = sum(f.status == WARNING for f in findings)
    lines.append(f"{len(findings)} checks, {failures} failed, {warnings} warnings")
    return "\n".join(lines) + "\n"


def as_json(facts: Mapping, findings: list[Finding]) -> str:
    checks = [
        {
            "family": f.family,
            "status": f.status,
            "what": f.what,
            "cause": f.cause,
            "hint": f.hint,
            "details": dict(f.details),
        }
        for f in findings
    ]
    healthy = not any(f.status == FAILURE for f in findings)
    return json.dumps({**facts, "healthy": healthy, "checks": checks}, indent=2) + "\n"


def write(text: str) -> None:
    """To stdout as UTF-8, whatever the locale says."""
    sys.stdout.flush()
    data = text.encode("utf-8", "backslashreplace")
    while data:
        data = data[os.write(1, data) :]


def colour_wanted(environ: Mapping[str, str]) -> bool:
    return not environ.get("NO_COLOR") and environ.get("TERM") != "dumb" and os.isatty(1)


class Progress:
    """A bar on stderr, if that is a terminal; gone when done."""

    WIDTH = 20

    def __init__(self, environ: Mapping[str, str]):
        self.shown = os.isatty(2) and environ.get("TERM") != "dumb"

    def show(self, done: int, of: int, what: str) -> None:
        if self.shown:
            full = self.WIDTH * done // max(of, 1)
            bar = "#" * full + "-" * (self.WIDTH - full)
            sys.stderr.write(f"\r\033[K[{bar}] {_printable(what)[:50]}")
            sys.stderr.flush()

    def clear(self) -> None:
        if self.shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
