"""Tells what differs between two runs of a suite, and whether it differs every time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import tomllib
from outcomes import Run

ABSENT = "(not run)"

# Process ids, addresses, times and temporary names in what skipped cases say.
_VOLATILE = re.compile(r"0x[0-9a-f]+|\d+(?:\.\d+)?|/tmp/\S+")


@dataclass
class Difference:
    case: str
    stock: list[str]  # One outcome a run.
    pylaunch: list[str]
    detail: str

    @property
    def verdict(self) -> str:
        """ "flaky" only if stock itself is seen to waver or runs like pylaunch's once."""
        if set(self.stock) & set(self.pylaunch[:1]) or len(set(self.stock)) > 1:
            return "flaky"
        return "different" if len(set(self.pylaunch)) == 1 else "unsteady"


def differing(stock: Run, ours: Run) -> list[str]:
    cases = sorted({*stock.outcomes, *ours.outcomes})
    return [case for case in cases if _outcome(stock, case) != _outcome(ours, case)]


def _outcome(run: Run, case: str) -> str:
    return _VOLATILE.sub("#", run.outcomes.get(case, ABSENT))


def differences(
    stock_runs: list[Run], ours: Run, repeat: Callable[[], tuple[Run, Run]], repeats: int
) -> list[Difference]:
    """Runs both again, at most `repeats` times, while a verdict other than "flaky" is possible."""
    found = {
        case: Difference(
            case,
            [_outcome(run, case) for run in stock_runs],
            [_outcome(ours, case)],
            ours.details.get(case, ""),
        )
        for case in differing(stock_runs[0], ours)
    }
    for _ in range(repeats):
        if all(x.verdict == "flaky" for x in found.values()):
            break
        again, ours_again = repeat()
        for case, difference in found.items():
            difference.stock.append(_outcome(again, case))
            difference.pylaunch.append(_outcome(ours_again, case))
    return list(found.values())


@dataclass(frozen=True)
class Allowed:
    """A difference that comes from the environment, with the reason."""

    case: str  # A pattern, as of fnmatch.
    reason: str
    python: str = "*"
    outcome: str = "*"  # Of the case under pylaunch.

    def covers(self, difference: Difference, version: str) -> bool:
        return (
            fnmatchcase(difference.case, self.case)
            and fnmatchcase(version, self.python)
            and all(fnmatchcase(x, self.outcome) for x in difference.pylaunch)
        )


def read_allowed(path: Path) -> list[Allowed]:
    """Raises TypeError if an entry lacks its reason or has unknown fields."""
    return [Allowed(**entry) for entry in tomllib.loads(path.read_text())["allowed"]]


def reason(allowed: Iterable[Allowed], difference: Difference, version: str) -> str | None:
    return next((x.reason for x in allowed if x.covers(difference, version)), None)
