"""Runs the same tests under stock `python` and under `pylaunch`; prints every case that differs.

Exit code 0: no difference but those that allowed.toml explains. See docs/conformance.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path[:0] = [
    str(Path(__file__).resolve().parent),
    str(Path(__file__).resolve().parents[1] / "whole"),
]

from compare import Difference, differences, differing, read_allowed, reason  # noqa: E402
from layout import ROOT, add_site, add_source, make_prefix  # noqa: E402
from outcomes import MODES, Laboratory, Run  # noqa: E402
from suites import CPYTHON, PACKAGES, QUICK, Suite, cpython_suites  # noqa: E402

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
    restored: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)  # Of the harness.


class Comparison:
    def __init__(self, name: str, laboratory: Laboratory, modes: list[str]):
        self.name = name
        self.laboratory = laboratory
        self.modes = modes
        self.version = laboratory.prefix.version
        self.allowed = read_allowed(Path(__file__).parent / "allowed.toml")
        self.tallies = {mode: Tally() for mode in ("stock", *modes)}

    def compare(self, suite: Suite) -> None:
        stock_runs = [self.laboratory.run(suite, "stock")]
        self._count("stock", suite, stock_runs[0])
        for mode in self.modes:
            run = self.laboratory.run(suite, mode)
            self._count(mode, suite, run)
            if differing(stock_runs[0], run):
                self._judge(suite, mode, stock_runs, run)

    def check_that_something_ran(self) -> None:
        for mode, tally in self.tallies.items():
            if tally.cases == 0:
                tally.faults.append(f"{self.name} on {self.version}, {mode}: not one case ran")

    def _count(self, mode: str, suite: Suite, run: Run) -> None:
        tally = self.tallies[mode]
        tally.cases += run.cases
        tally.children += run.children
        tally.restored += run.restored
        tally.seconds += run.seconds
        counts = f"{run.cases} cases, {run.children} children, {run.restored} restored"
        say(f"{self.version} {suite.name} {mode}: {counts}, {run.seconds:.1f} s")
        if mode != "stock" and suite.starts_children and run.cases > 1 and not run.children:
            tally.faults.append(f"{suite.name}: no child process ran under pylaunch")
        if mode != "stock" and not run.processes:
            tally.faults.append(f"{suite.name}: did not run under pylaunch")
        if mode == "image" and not run.began_restored:
            tally.faults.append(f"{suite.name}: was not restored from an image")
        if mode == "stock" and run.processes:
            tally.faults.append(f"{suite.name}: stock ran {run.processes} processes under pylaunch")

    def _judge(self, suite: Suite, mode: str, stock_runs: list[Run], run: Run) -> None:
        """Adds to `stock_runs`: what stock has once been seen to do counts in every mode."""
        more = []

        def repeat():
            more.append(self.laboratory.run(suite, "stock"))
            return more[-1], self.laboratory.run(suite, mode)

        tally = self.tallies[mode]
        found = differences(stock_runs, run, repeat, REPEATS)
        stock_runs += more
        for difference in found:
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
        "| Python | tests | mode | cases "
        "| different | unsteady | flaky | allowed | children | restored |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for comparison in comparisons:
        for mode, t in comparison.tallies.items():
            counts = (t.cases, t.different, t.unsteady, t.flaky, t.allowed, t.children, t.restored)
            row = (comparison.version, comparison.name, mode, *counts)
            lines.append(f"| {' | '.join(map(str, row))} |")
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/conformance", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="only these (all: --list)")
    parser.add_argument("--python", action="append", default=[], help="may be given several times")
    parser.add_argument("--mode", action="append", default=[], choices=MODES)
    parser.add_argument(
        "--preload",
        action="append",
        default=[],
        metavar="ENTRY",
        help="what pylaunch preloads before CPython's own tests run, and stock then imports first",
    )
    parser.add_argument("--site", type=Path, help="a folder of packages that --preload needs")
    parser.add_argument("--quick", action="store_true", help="a core of two minutes, no mode 'off'")
    parser.add_argument("--list", action="store_true", help="name the suites, and end")
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="what is installed")
    parser.add_argument("--results", type=Path, help="write the counts there, as JSON")
    return parser.parse_args()


def compare_all(python: str, arguments: argparse.Namespace, place: Path) -> list[Comparison]:
    """CPython's own tests, then other people's, each in an environment of its own."""
    names = arguments.suites or (QUICK if arguments.quick else CPYTHON + list(PACKAGES))
    chosen = arguments.mode or (["cold", "warm"] if arguments.quick else MODES)
    modes = [mode for mode in MODES if mode in chosen]  # Warm takes what cold leaves.
    if "warm" in modes and "cold" not in modes:
        raise SystemExit("--mode warm needs --mode cold, which leaves it the archive")
    made = []
    own = [name for name in names if name not in PACKAGES]
    if own:
        prefix = make_prefix(python, arguments.build, place / "cpython")
        if arguments.site:
            add_site(prefix, arguments.site)
        laboratory = Laboratory(prefix, place, arguments.preload)
        made.append(Comparison("CPython's own", laboratory, modes))
        installed = cpython_suites(prefix)
        missing = [name for name in own if name not in installed]
        say(f"{prefix.version} has no {', '.join(missing) or 'gaps'}")
        for name in own:
            if name in installed:
                made[-1].compare(installed[name])
    others = [name for name in names if name in PACKAGES]
    if others:
        requirements = Path(__file__).parent / "requirements.txt"
        prefix = make_prefix(python, arguments.build, place / "packages", requirements)
        for name in others:
            made.append(Comparison(name, Laboratory(prefix, place), modes))
            if PACKAGES[name].source:
                add_source(prefix, PACKAGES[name].source)
            made[-1].compare(PACKAGES[name])
    return made


def main() -> int:
    arguments = parse_arguments()
    if arguments.list:
        say("\n".join([*CPYTHON, *PACKAGES]))
        return 0
    comparisons = []
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        for number, python in enumerate(arguments.python or [sys.executable]):
            comparisons += compare_all(python, arguments, Path(folder, str(number)))
    for comparison in comparisons:
        comparison.check_that_something_ran()
    say(table(comparisons))
    tallies = [tally for comparison in comparisons for tally in comparison.tallies.values()]
    for fault in [fault for tally in tallies for fault in tally.faults]:
        say(f"FAULT {fault}")
    if arguments.results:
        counts = [
            {"python": c.version, "suite": c.name, "mode": mode, **asdict(tally)}
            for c in comparisons
            for mode, tally in c.tallies.items()
        ]
        arguments.results.write_text(json.dumps(counts, indent=2) + "\n")
    return any(tally.different or tally.unsteady or tally.faults for tally in tallies)


if __name__ == "__main__":
    sys.exit(main())
