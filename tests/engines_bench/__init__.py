"""Engines that start Python processes for their users, each as a real program: what
scripts/bench-engines measures, and tests/whole/engines tests.

A file here for each engine has ENGINES, a list of Engine. Its programs lie in `programs`. They
import `tell` from there, and call

    tell.submitted()   in who asks for workers, just before
    tell.first_line()  in each worker: does the useful import, says when, waits for the others

A run is in one of four MODES. It has the environment's own `python` (stock) or its `pylaunch`, and
variables that say what is preloaded. To add an engine is to add a file here and a page in
docs/engines, in which <!-- NAME --> and <!-- /NAME --> enclose its figures.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import pkgutil
import re
import resource
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).parent / "programs"
MODES = ("stock", "plain", "preload", "image")
RACY = 2.2  # Files younger than two seconds prove nothing (cache/stamp.h).


@dataclass(frozen=True)
class Engine:
    name: str  # As `--engine` takes it.
    title: str  # In tables.
    page: str  # The document in docs/engines that has its figures.
    # What follows `python`; {programs} and {bin} are folders. Where `python` is not the first word,
    # the command is a whole one: it begins with "bash", and {python} stands for it.
    command: tuple[str, ...]
    requirements: tuple[str, ...] = ()  # Installed into an environment of its own.
    needs: tuple[str, ...] = ()  # Modules that .venv has: without them it is not tested.
    tools: tuple[str, ...] = ()  # Programs on PATH, likewise.
    # Workers are no children of the command: only what each took to its first line is known.
    detached: bool = False
    workers: int = 2  # How many processes call tell.first_line().
    env: Mapping[str, str] = field(default_factory=dict)
    mend: Callable[[str], str] = str  # Takes from its output what differs from run to run.
    # PYLAUNCH_PRELOAD and PYLAUNCH_IMAGE are set outside, or by the program (tell.for_workers()).
    set_by_program: bool = False
    # Who preloads: each worker, or processes that they are forked from; so many, and nobody else.
    forked_from: int = 0
    besides: int = 0  # So many more preload: their program has a use for it.
    # What the words of spare workers have in them: they preload, and may get no task.
    spare: str = ""
    also: tuple[str, ...] = ()  # Further lines of the preload file: what the engine itself imports.


@dataclass(frozen=True)
class Worker:
    """A process that has come to its first useful line."""

    pid: int
    seconds: float  # Since the submission.
    private: int  # Bytes that it shares with nobody while all workers are idle.
    preloaded: bool  # The useful import had been done when the user's code began.
    restored: bool  # It runs in a restored process, or in a child of one.
    cpu: float  # Seconds of processors that it has taken itself until then.


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str
    workers: list[Worker]
    whole: float  # Seconds from the start of the command to the last worker's first useful line.
    cpu: float  # Seconds of processors, of all processes that were waited for.
    loaded: dict[int, list[str]]  # Processes that loaded `used`, with their words, where asked for.

    @property
    def seconds(self) -> float:
        return statistics.median(x.seconds for x in self.workers)

    @property
    def worker_cpu(self) -> float:
        return statistics.median(x.cpu for x in self.workers)

    @property
    def private(self) -> float:
        return statistics.median(x.private for x in self.workers)


def engines() -> dict[str, Engine]:
    modules = [importlib.import_module(f"{__name__}.{x.name}") for x in _files()]
    found = [engine for module in modules for engine in module.ENGINES]
    return {engine.name: engine for engine in found}


def _files():
    return (x for x in pkgutil.iter_modules([str(Path(__file__).parent)]) if not x.ispkg)


def environment(engine: Engine, python: str, build: Path, folder: Path) -> Path:
    """A virtual environment in `folder`, made once, with what the engine needs, with what the
    environment of `python` has behind it, and with `build` installed."""
    behind = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    ).strip()
    base = subprocess.check_output(
        [python, "-c", "import sys; print(sys._base_executable)"], text=True
    ).strip()
    wanted = json.dumps([base, behind, sorted(engine.requirements)])
    place = folder / hashlib.sha256(wanted.encode()).hexdigest()[:12]
    if not (place / "made").exists():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([base, "-m", "venv", "--without-pip", place], check=True)
        site = next((place / "lib").glob("python*/site-packages"))
        (site / "behind.pth").write_text(f"{behind}\n")
        if engine.requirements:
            pip = [python, "-m", "pip", "--python", place / "bin/python", "install", "--quiet"]
            pip.append("--disable-pip-version-check")
            subprocess.run([*pip, *engine.requirements], check=True)
        (place / "made").write_text(wanted)
    quiet = {"stdout": subprocess.DEVNULL, "check": True}
    subprocess.run(["cmake", "--install", build, "--prefix", place], **quiet)
    return place


def children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Place:
    """A folder in which an engine's program runs, with a cache of its own."""

    def __init__(self, engine: Engine, environment: Path, folder: Path, use: str, module: str):
        """`use`: the useful import, which two modes preload. `module`: one that it loads."""
        self.engine = engine
        self.environment = environment
        self.folder = folder
        self.use, self.module = use, module
        self.cache = folder / "cache"
        self.programs = folder / "programs"
        shutil.copytree(PROGRAMS, self.programs, ignore=shutil.ignore_patterns("__pycache__"))
        # With `python -c` modules are searched there: what is new in it makes another image.
        self.cwd = folder / "cwd"
        self.cwd.mkdir()
        (folder / "home").mkdir()
        self.preload = folder / "preload.txt"
        self.preload.write_text("\n".join([use, *engine.also, ""]))
        for path in (self.preload, self.programs, *self.programs.rglob("*")):
            os.utime(path, (time.time() - 100,) * 2)

    def env(self, mode: str, extra: Mapping[str, str]) -> dict[str, str]:
        dropped = re.compile(
            r"PYTHON|PYLAUNCH_|PYENV_|VIRTUAL_ENV|CONDA|LD_|XDG_|COV_|PYTEST|LC_|LANG|OMP_|MKL_"
        )
        env = {name: value for name, value in os.environ.items() if not dropped.match(name)}
        env.update(
            HOME=str(self.folder / "home"),
            LANG="C.UTF-8",
            TZ="UTC",
            NO_COLOR="1",
            HF_HUB_OFFLINE="1",
            PYTHONPATH=str(self.programs),
            # New .pyc files would make folders too young for an image.
            PYTHONDONTWRITEBYTECODE="1",
            PATH=f"{self.environment / 'bin'}:{env['PATH']}",
            ENGINES_TOLD=str(self.folder / "told"),
            ENGINES_WORKERS=str(self.engine.workers),
            ENGINES_USE=self.use,
            ENGINES_MODULE=self.module,
        )
        if mode != "stock":
            env["PYLAUNCH_CACHE"] = str(self.cache)
        prefix = "FOR_WORKERS_" if self.engine.set_by_program else ""
        if mode in ("preload", "image"):
            env[f"{prefix}PYLAUNCH_PRELOAD"] = str(self.preload)
        if mode == "image":
            env[f"{prefix}PYLAUNCH_IMAGE"] = "1"
        return {**env, **self.engine.env, **extra}

    def argv(self, mode: str) -> list[str]:
        bin_folder = self.environment / "bin"
        python = bin_folder / ("python" if mode == "stock" else "pylaunch")
        words = [
            x.format(programs=self.programs, bin=bin_folder, python=python)
            for x in self.engine.command
        ]
        return words if words[0] == "bash" else [str(python), *words]

    def run(self, mode: str, timeout: float = 600, **extra: str) -> Outcome:
        """Raises RuntimeError where the command fails or a worker does not tell."""
        told = self.folder / "told"
        told.unlink(missing_ok=True)
        cpu = -children_seconds()
        start = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        process = subprocess.Popen(
            self.argv(mode),
            env=self.env(mode, extra),
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            restore_signals=False,  # Ignored signals can be in an image's key.
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            err += f"\nno end after {timeout} s"
        cpu += children_seconds()
        lines = [json.loads(x) for x in told.read_text().splitlines()] if told.exists() else []
        submitted = [x["submitted"] for x in lines if "submitted" in x] or [start]
        private = {x["idle"]: x["private"] for x in lines if "idle" in x}
        workers = [
            Worker(
                x["pid"],
                (x["at"] - submitted[0]) / 1e9,
                private.get(x["pid"], 0),
                x["preloaded"],
                x["restored"],
                x["cpu"],
            )
            for x in lines
            if "at" in x
        ]
        if process.returncode or len(workers) != self.engine.workers:
            raise RuntimeError(
                f"{self.engine.name}, {mode}: exit code {process.returncode}, {len(workers)} of "
                f"{self.engine.workers} workers told\n{out[-4000:]}\n{err[-8000:]}"
            )
        whole = (max(x["at"] for x in lines if "at" in x) - start) / 1e9
        loaded = {x["loaded"]: x["argv"] for x in lines if "loaded" in x}
        return Outcome(process.returncode, out, err, workers, whole, cpu, loaded)

    def plain(self, text: str) -> str:
        """Without what differs from run to run, or names the Python."""
        text = re.sub(r"\S*/bin/(python|pylaunch)\b", "<python>", text)
        return self.engine.mend(text)

    def warm(self, mode: str, tries: int = 4) -> Outcome:
        """Runs until what a later run uses is there: .pyc files, the archive, the images."""
        for _ in range(tries):
            outcome = self.run(mode, **({} if mode == "stock" else {"PYLAUNCH_SEAL": "wait"}))
            self.settle()
            if mode != "image":
                return outcome
            if all(x.restored for x in outcome.workers):
                # Whoever started them may have made an image of its own.
                return self.run(mode, PYLAUNCH_SEAL="wait")
            time.sleep(RACY)
        raise RuntimeError(f"{self.engine.name}: no image is used: {outcome}")

    def settle(self, timeout: float = 120) -> None:
        """Waits until nobody writes an archive or an image any more."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self._writers():
            time.sleep(0.05)

    def _writers(self) -> bool:
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                files = [os.readlink(x) for x in Path("/proc", entry, "fd").iterdir()]
            except OSError:
                continue
            if any(x.startswith(f"{self.cache}/") for x in files):
                return True
        return False


__all__ = [
    "MODES",
    "RACY",
    "ROOT",
    "Engine",
    "Outcome",
    "Place",
    "Worker",
    "engines",
    "environment",
]
