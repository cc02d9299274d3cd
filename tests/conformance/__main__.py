"""Runs the same tests under stock `python` and under `pylaunch`, case by case, and prints every case whose outcome differs.

Exit code 0: no difference but those that allowed.toml explains. See docs/conformance.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

from compare import Difference, differences, differing, read_allowed, reason  # noqa: E402
from layout import ROOT, make_prefix  # noqa: E402
from outcomes import MODES, Laboratory, Run  # noqa: E402
from suites import QUICK, Suite, cpython_suites  # noqa: E402

REPEATS = 2


@dataclass
class Tally:
    """Of one Python, one mode."""

    cases: int = 0
    different: int = 0
    unsteady: int = 0
    flaky: int = 0
    allowed: int = 0
    children: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)  # Of the harness.


class Comparison:
    def __init__(self, laboratory: Laboratory, modes: list[str]):
        self.laboratory = laboratory
        self.modes = modes
        self.version = laboratory.prefix.version
        self.allowed = read_allowed(Path(__file__).parent / "allowed.toml")
        self.tallies = {mode: Tally() for mode in ("stock", *modes)}

    def compare(self, suite: Suite) -> None:
        stock = self.laboratory.run(suite, "stock")
        self._count("stock", suite, stock)
        for mode in self.modes:
            run = self.laboratory.run(suite, mode)
            self._count(mode, suite, run)
            if differing(stock, run):
                self._judge(suite, mode, stock, run)

    def _count(self, mode: str, suite: Suite, run: Run) -> None:
        tally = self.tallies[mode]
        tally.cases += run.cases
        tally.children += run.children
        tally.seconds += run.seconds
        say(
            f"{self.version} {suite.name} {mode}: {run.cases} cases, {run.children} children, {run.seconds:.1f} s"
        )
        if mode != "stock" and suite.starts_children and run.cases > 1 and not run.children:
            tally.faults.append(f"{suite.name}: no child process ran under pylaunch")
        if mode == "stock" and run.children:
            tally.faults.append(f"{suite.name}: under stock, {run.children} processes ran under pylaunch")

    def _judge(self, suite: Suite, mode: str, stock: Run, run: Run) -> None:
        def repeat():
            return self.laboratory.run(suite, "stock"), self.laboratory.run(suite, mode)

        tally = self.tallies[mode]
        for difference in differences(stock, run, repeat, REPEATS):
            why = reason(self.allowed, difference, self.version)
            verdict = "allowed" if why else difference.verdict
            setattr(tally, verdict, getattr(tally, verdict) + 1)
            report(self.version, mode, verdict, difference, why)


def say(text: str) -> None:
    print(text, flush=True)


def report(version: str, mode: str, verdict: str, difference: Difference, why: str | None) -> None:
    say(f"{verdict.upper()} {version} {mode}: {difference.case}")
    say(f"    stock:    {' | '.join(difference.stock)}")
    say(f"    pylaunch: {' | '.join(difference.pylaunch)}")
    if why:
        say(f"    because:  {why}")
    elif verdict != "flaky":
        say("".join(f"    > {line}\n" for line in difference.detail.splitlines()[-40:]))


def table(comparisons: list[Comparison]) -> str:
    lines = [
        "| Python | mode | cases | different | unsteady | flaky | allowed | children under pylaunch |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for comparison in comparisons:
        for mode, t in comparison.tallies.items():
            counts = (t.cases, t.different, t.unsteady, t.flaky, t.allowed, t.children)
            lines.append(f"| {comparison.version} | {mode} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/conformance", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="only these test modules")
    parser.add_argument("--python", action="append", default=[], help="may be given several times")
    parser.add_argument("--mode", action="append", default=[], choices=MODES)
    parser.add_argument("--quick", action="store_true", help="a core of about two minutes, warm only")
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="what is installed")
    parser.add_argument("--results", type=Path, help="write counts there, as JSON")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    names = arguments.suites or (QUICK if arguments.quick else [])
    modes = arguments.mode or (["warm"] if arguments.quick else list(MODES))
    if modes == ["warm"]:
        modes = ["cold", "warm"]
    comparisons = []
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        for number, python in enumerate(arguments.python or [sys.executable]):
            place = Path(folder, str(number))
            prefix = make_prefix(python, arguments.build, place / "prefix")
            comparison = Comparison(Laboratory(prefix, place), modes)
            comparisons.append(comparison)
            for suite in cpython_suites(prefix, names):
                comparison.compare(suite)
    say(table(comparisons))
    tallies = [tally for comparison in comparisons for tally in comparison.tallies.values()]
    for fault in [fault for tally in tallies for fault in tally.faults]:
        say(f"FAULT {fault}")
    if arguments.results:
        counts = {c.version: {m: asdict(t) for m, t in c.tallies.items()} for c in comparisons}
        arguments.results.write_text(json.dumps(counts, indent=2) + "\n")
    return any(tally.different or tally.unsteady or tally.faults for tally in tallies)


if __name__ == "__main__":
    sys.exit(main())
