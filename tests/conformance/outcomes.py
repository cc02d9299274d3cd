"""Runs one suite in one mode; what became of each of its cases."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from conftest import wait_for_sealers
from engine_watch import EngineWatch
from layout import Prefix, clean_environment
from suites import Suite

RUNNER = Path(__file__).parent / "runner" / "run_unittest.py"
EMPTY = Path(__file__).parent / "runner" / "empty.py"

MODES = ("off", "cold", "warm", "image")
KEEP = ("cold", "warm", "image")  # These leave something, in the suite's cache folder.


@dataclass
class Run:
    outcomes: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    output: str = ""
    processes: int = 0  # That had our engine in them.
    restored: int = 0  # From an image, of all these.
    began_restored: bool = False  # The process that ran the suite itself.
    seconds: float = 0.0

    @property
    def children(self) -> int:
        """Without the process that ran the suite itself."""
        return max(0, self.processes - 1)

    @property
    def cases(self) -> int:
        return sum(not outcome.startswith("skipped") for outcome in self.outcomes.values())


class Laboratory:
    """Where suites run: one Python, one folder of its own for everything that runs leave behind."""

    def __init__(self, prefix: Prefix, folder: Path, preload: Sequence[str] = ()):
        self.prefix = prefix
        self.preload = preload  # Entries, for suites that unittest runs.
        self.folder = folder
        self._runs = 0
        # Alone in its folder, and not to be changed by work that goes on in the repository.
        (folder / "runner").mkdir(exist_ok=True)
        self.runner = Path(shutil.copy(RUNNER, folder / "runner"))
        self.empty = Path(shutil.copy(EMPTY, folder / "runner"))

    def cache(self, suite: Suite) -> Path:
        return self.folder / "caches" / suite.name

    def run(self, suite: Suite, mode: str) -> Run:
        """`mode` is one of MODES or "stock". A warm run has the archive that a cold run left.

        In mode image, the process that runs the suite is restored from an image that another has
        left; its children make and use their own.
        """
        if mode == "cold":
            shutil.rmtree(self.cache(suite), ignore_errors=True)
        self._runs += 1
        place = self.folder / f"run-{self._runs}"
        for name in ("home", "tmp", "cwd"):
            (place / name).mkdir(parents=True)
        try:
            return self._run(suite, mode, place)
        finally:
            wait_for_sealers(self.cache(suite) if mode in KEEP else None)
            shutil.rmtree(place, ignore_errors=True)

    def _environment(self, suite: Suite, mode: str, place: Path) -> dict[str, str]:
        # The cache is named by XDG_CACHE_HOME, which -I and -E leave in force.
        environment = {
            **clean_environment(place / "home"),
            "TMPDIR": str(place / "tmp"),
            "XDG_CACHE_HOME": str(self.cache(suite) if mode in KEEP else place / "xdg"),
        }
        if suite.module and self.preload:
            # The runner takes both away again, so that children know nothing of them.
            environment["CONFORMANCE_PRELOAD"] = "\n".join(self.preload)
            if mode != "stock":
                environment["PYLAUNCH_PRELOAD"] = "\n".join(self.preload)
        if mode == "off":
            environment["PYLAUNCH_CACHE_MODE"] = "off"
        if mode == "image":
            environment.update(PYLAUNCH_IMAGE="1", PYLAUNCH_SEAL="wait")
        return environment

    def _run(self, suite: Suite, mode: str, place: Path) -> Run:
        python = self.prefix.stock if mode == "stock" else self.prefix.pylaunch
        results = place / "results"
        command = [python, *self._arguments(suite, results)]
        cwd = self.prefix.sources / suite.source if suite.source else place / "cwd"
        environment = self._environment(suite, mode, place)
        if mode == "image":
            # One image is for all programs of a folder, another for all that -m names.
            program = [self.empty] if suite.module else ["-m", "this"]
            self._make_image(program, self.cache(suite), environment, cwd)
        began = time.monotonic()
        with (
            EngineWatch(self.prefix.engine) as engine,
            EngineWatch(self.prefix.restorer) as restorer,
            open(place / "output", "wb") as output,
        ):
            code = _finish(command, environment, cwd, output, suite.timeout)
        run = Run(seconds=time.monotonic() - began)
        run.processes, run.restored = engine.count, restorer.count
        run.output = (place / "output").read_text(errors="backslashreplace")
        run.began_restored = _began_restored(results) if suite.module else restorer.count > 0
        read = _read_lines if suite.module else _read_junit
        for case, outcome, detail in read(results):
            run.outcomes[case] = outcome
            run.details[case] = detail
        run.outcomes[f"{suite.name}: exit"] = code
        run.details[f"{suite.name}: exit"] = run.output[-4000:]
        return run

    def _make_image(self, program, cache: Path, environment, cwd) -> None:
        before = set(cache.rglob("*.img"))
        null = subprocess.DEVNULL
        command = [self.prefix.pylaunch, *program]
        for _ in range(4):  # What was installed a moment ago proves nothing yet (cache/stamp.h).
            subprocess.run(command, env=environment, cwd=cwd, stdin=null, stdout=null, check=True)
            if set(cache.rglob("*.img")) - before:
                return
            time.sleep(1)

    def _arguments(self, suite: Suite, results: Path) -> list[str]:
        if suite.module:
            return [str(self.runner), str(results), suite.module]
        common = ["-q", "-p", "no:cacheprovider", f"--junitxml={results}"]
        return ["-m", "pytest", *common, *suite.pytest]


def _finish(command, environment, cwd, output, timeout: float) -> str:
    """Runs a command to its end in a session of its own, so that nothing of it outlives it."""
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return f"exit code {process.wait(timeout)}"
    except subprocess.TimeoutExpired:
        return f"not done after {timeout:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _told(results: Path) -> Iterator[dict[str, str]]:
    if results.exists():
        for line in results.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # A forked child may have died in it.
                yield json.loads(line)


def _began_restored(results: Path) -> bool:
    return any(told.get("executable", "").endswith("/pylaunch-restore") for told in _told(results))


def _read_lines(results: Path) -> Iterator[tuple[str, str, str]]:
    for told in _told(results):
        if "case" in told:
            yield told["case"], told["outcome"], told["detail"]


def _read_junit(results: Path) -> Iterator[tuple[str, str, str]]:
    if not results.exists():
        return
    for case in ElementTree.parse(results).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        told = next((x for x in case if x.tag in ("failure", "error", "skipped")), None)
        if told is None:
            yield name, "passed", ""
        elif told.tag == "skipped":
            yield name, f"skipped: {told.get('message')}", ""
        else:
            first = (told.get("message") or "").split("\n", 1)[0].split(":", 1)[0]
            yield name, f"{told.tag}: {first}", told.text or ""
