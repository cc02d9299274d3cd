# ruff: noqa: E501 - tables read better on long lines.
"""Every system call of a writer killed and failing in turn, and every one by which a start reads the archive or asks for one.

By default a sample, which costs seconds; `PYLAUNCH_HOSTILE=full` does all of them, four to seven minutes on two cores:

    PYLAUNCH_HOSTILE=full .venv/bin/python -m pytest -n 3 -rP --basetemp=/dev/shm/hostile tests/whole/archive/test_every_step.py

A run without faults tells how often each call is made; then that run is repeated with strace killing the process at the call, or
having the call fail, once for each of the calls and each of the errors that lead to different code. After each: what the program
printed is stock's, no temporary file is left by a writer that lives, the next start finds nothing corrupt and nothing lost that was
there, and the one after it misses nothing. `-rP` shows how many there were; what the last run found is told in docs/archive.md.
"""

import dataclasses
import os
import random
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from conftest import Result, Runner, Tree, wait_for_sealers
from test_hostile import traced as traced

FULL = os.environ.get("PYLAUNCH_HOSTILE") == "full"

# What a call may fail with, as far as the code tells it apart. "+": and ever after, as on a disk that is full. "=0" is no error but
# the result 0: the end of a file that was cut off, a write that wrote nothing.
ERRORS = {
    "openat": ["ENOENT", "EIO", "EIO+", "EINTR", "ELOOP", "EEXIST"],
    "newfstatat": ["ENOENT", "EIO", "EIO+"],
    "fstat": [
        "EIO",
        "EIO+",
    ],  # Of the engine, which asks no newer glibc than 2.28 (newer_calls.cc).
    "read": ["EIO", "EIO+", "EINTR", "=0"],
    "pwrite64": ["ENOSPC", "ENOSPC+", "EIO", "EINTR", "=0"],
    "fsync": ["EIO", "EINTR", "EINVAL"],
    "rename": ["EIO", "ENOSPC", "EROFS+"],
    "unlink": ["EIO", "ENOENT"],
    "mkdir": ["EACCES", "EEXIST", "ENOENT"],
    "flock": ["EIO", "EINTR", "EAGAIN", "EAGAIN+", "ENOLCK", "EOPNOTSUPP", "ENOSYS"],
    "mmap": ["ENOMEM", "ENOMEM+", "ENODEV"],
    "mremap": ["ENOMEM"],
    "munmap": ["EINVAL"],
    "close": ["EIO", "EINTR"],
    "getdents64": ["EIO", "ENOENT"],
    "getrandom": ["EAGAIN", "EINTR"],
    "fchmod": ["EPERM"],
    "access": ["EACCES", "EIO"],
    "statfs": ["EIO"],
    "readlink": ["EIO"],
    "dup2": ["EINTR"],
    "close_range": ["ENOSYS"],
    "chdir": ["EACCES"],
    "getpriority": ["EPERM"],
    "setpriority": ["EPERM"],
    "memfd_create": ["ENOMEM", "EMFILE"],
    "write": ["ENOSPC", "EINTR", "=0"],
    "clone3": ["EAGAIN", "ENOSYS"],
    "wait4": ["EINTR", "ECHILD"],
}
# Who is killed between two of these leaves what the one before has left.
KILLED = {
    "openat", "close", "mkdir", "flock", "fchmod", "pwrite64", "fsync", "rename", "unlink", "exit_group",
}  # fmt: skip
# They cannot fail, or libc makes them before main and ends the process if they do; so it does to stock's.
NEVER_FAIL = {
    "arch_prctl", "brk", "execve", "exit_group", "futex", "geteuid", "mprotect", "prlimit64", "rseq", "rt_sigaction", "rt_sigprocmask",
    "set_robust_list", "set_tid_address",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Stage:
    """Modules in a tree and archives of them. REQUIRES: nobody writes to either."""

    tree: Path
    caches: Path

    def program(self, names: str) -> str:
        modules = names.split()
        return f"import colorsys, {', '.join(modules)}; print([len(m.X) for m in ({', '.join(modules)},)])"

    def env(self) -> dict[str, str]:
        # Without .pyc files, so that no run changes the tree; with -S, so that a test is short. colorsys and the interpreter's own come from theirs.
        return {
            "PYTHONPATH": str(self.tree),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYLAUNCH_SEAL": "wait",
        }


BASE = "big0 big1 big2"
# What is written: name, the archive there is, what the program imports, the archives' files there are afterwards.
WRITERS = {
    "first": ("none", BASE, 1),  # An archive where none was.
    "additions": ("base", f"{BASE} small0", 2),  # Beside an archive of 2 MiB.
    "more additions": ("delta", f"{BASE} small0 small1", 2),  # Over those that are there.
    "all anew": ("delta", f"{BASE} small0 large", 1),  # Too much for additions: both become one.
    "too much": ("two", f"{BASE} small0", 2),  # Additions, and the other archive goes.
}
FLAGS = {"too much": ["--cache-size=1M"]}
# How often it makes others depends on how many processes there are: it looks who has mapped the archive that is to go.
STEADY = {
    "too much": {"flock", "fsync", "mkdir", "pwrite64", "rename", "statfs", "unlink"},
}
READERS = {"plain": ("base", BASE), "with additions": ("delta", f"{BASE} small0")}
# By these who asks for a writer starts it.
ASKING = ["memfd_create", "write", "clone3", "wait4"]

SAMPLE = [
    ("additions", "pwrite64"), ("additions", "rename"), ("all anew", "rename"), ("all anew", "unlink"),
    ("too much", "unlink"),
]  # fmt: skip


@pytest.fixture(scope="module")
def stage(lab, tmp_path_factory) -> Stage:
    lab.need_pylaunch()
    folder = tmp_path_factory.mktemp("stage")
    numbers = random.Random(1)
    sizes = {"big0": 800_000, "big1": 800_000, "big2": 800_000, "large": 900_000}
    sizes |= {"small0": 100, "small1": 100}
    Tree(folder / "tree").write(
        {f"{name}.py": f"X = '{numbers.randbytes(size).hex()}'\n" for name, size in sizes.items()}
    )
    stage = Stage(folder / "tree", folder / "caches")
    stage.caches.mkdir()

    def fill(name: str, start: str, names: str, files: int, options=()) -> None:
        cache = stage.caches / name
        if start:
            shutil.copytree(stage.caches / start, cache)
        runner = Runner(lab, "warm", folder, cache)
        args = [*options, "-S", "-c", stage.program(names)]
        assert runner.again(*args, env=stage.env()).err == ""
        assert len(list(cache.glob("*.pla"))) == files

    fill("base", "", BASE, 1)
    fill("delta", "base", f"{BASE} small0", 2)
    fill("two", "base", BASE, 2, ["-O"])
    return stage


class Trial:
    """One program on a copy of one of the stage's archives."""

    def __init__(self, runner: Runner, stage: Stage, cache: str, names: str, flags=()):
        self.runner, self.stage, self.cache, self.flags = runner, stage, cache, flags
        self.args = ["-S", "-c", stage.program(names)]
        self.expected = runner.stock_once(*self.args, env=stage.env())
        assert self.expected.code == 0 and self.expected.err == ""
        self.log = runner.base / "log"
        self.kills = self.faults = 0
        self.wrong: list[str] = []
        self.count_missing()

    def lay_out(self) -> None:
        shutil.rmtree(self.runner.warm_cache, ignore_errors=True)
        if self.cache != "none":
            shutil.copytree(self.stage.caches / self.cache, self.runner.warm_cache)
        self.log.unlink(missing_ok=True)

    def run(self, explain: bool = False, wrap=(), options=()) -> Result:
        """As stock, but for one line of warning at most."""
        flags = [*self.flags, "--explain"] if explain else self.flags
        result = self.runner.again(
            *options, *self.args, env=self.stage.env(), flags=flags, wrap=wrap
        )
        assert result.without_pylaunch_lines() == self.expected, result
        if not explain:
            told = [x for x in result.err.splitlines() if x.startswith("pylaunch: ")]
            assert told == result.warnings() and len(told) <= 1, result.err
        return result

    def count_missing(self) -> None:
        """How many modules of the program the archive that is laid out lacks."""
        self.lay_out()
        flags = [*self.flags, "--cache-mode=readonly", "--explain"]
        result = self.runner.again(*self.args, env=self.stage.env(), flags=flags)
        self.missing = result.archive_counts()[1]

    def is_healthy_next(self, may_lose: bool, options=()) -> None:
        """The next start meets nothing that is broken, nothing that was there is lost, and the start after it misses nothing."""
        result = self.run(explain=True, options=options)
        assert "corrupt" not in result.err and len(result.warnings()) <= 1
        assert may_lose or result.archive_counts()[1] <= self.missing, result.err
        result = self.run(explain=True, options=options)
        hits, misses, stale = result.archive_counts()
        assert (misses, stale) == (0, 0) and hits > 4 and not result.warnings(), result.err

    def happened(self) -> bool:
        log = self.log.read_text()
        return "INJECTED" in log or "killed by SIGKILL" in log

    def counts(self) -> Counter:
        """How often each call was made, as the log of a run without faults says."""
        return Counter(re.findall(r"^\d+ +(\w+)\(", self.log.read_text(), re.MULTILINE))

    def attempt(self, *args, **kwargs) -> None:
        """What `meet` asserts is kept for the end."""
        try:
            self.meet(*args, **kwargs)
        except AssertionError as e:
            self.wrong.append(f"{args}: {e}")

    def finish(self) -> None:
        print(f"tried: {self.kills} kills, {self.faults} faults, {len(self.wrong)} failures")
        assert not self.wrong, "\n".join(self.wrong)


def attempts(call: str, count: int) -> list[tuple[int, str]]:
    """Which of the calls are to fail, and how; without FULL the last one, in one way."""
    if FULL:
        return [(n, error) for n in range(1, count + 1) for error in ERRORS.get(call, [])]
    return [(count, ERRORS[call][0])] if count else []


def failing(call: str, n: int, error: str) -> str:
    kind = "retval" if error[0] == "=" else "error="
    return f"{call}:{kind}{error.rstrip('+')}:when={n}{'+' * error.endswith('+')}"


# ---------------------------------------------------------------------------------------------- writing


class Writing(Trial):
    def write(self, options: str) -> None:
        self.lay_out()
        (self.runner.base / "inject").write_text(options)
        self.run()
        (self.runner.base / "inject").write_text("-e trace=none")

    def temps(self) -> list[str]:
        return [path.name for path in self.runner.warm_cache.rglob("*.tmp.*")]

    def meet(self, call: str, inject: str, killed: bool) -> None:
        self.write(f"-e trace={call} -e inject={inject}")
        assert self.happened()
        assert len(self.temps()) <= killed
        # An old archive or a source that is said to be gone, or to be a link, goes.
        self.is_healthy_next(may_lose="error=ENOENT" in inject or "error=ELOOP" in inject)
        if self.cache == "two":
            self.is_healthy_next(may_lose=True, options=["-O"])


def written(runner: Runner, stage: Stage, scenario: str) -> Writing:
    """A trial whose log is that of a run without faults, which wrote what the scenario says."""
    cache, names, files = WRITERS[scenario]
    trial = Writing(runner, stage, cache, names, FLAGS.get(scenario, ()))
    trial.write("-e trace=all")
    assert len(list(runner.warm_cache.glob("*.pla"))) == files
    return trial


@pytest.mark.parametrize("scenario", WRITERS)
def test_no_call_of_the_writers_is_forgotten(traced, stage, scenario):
    trial = written(traced, stage, scenario)
    assert set(trial.counts()) <= ERRORS.keys() | KILLED | NEVER_FAIL
    trial.is_healthy_next(may_lose=False)


@pytest.mark.parametrize(
    ("scenario", "call"),
    [
        (scenario, call)
        for scenario in WRITERS
        for call in sorted(STEADY.get(scenario, ERRORS.keys() | KILLED))
    ]
    if FULL
    else SAMPLE,
)
def test_writer_is_killed_and_fails_at_every_step(traced, stage, scenario, call):
    trial = written(traced, stage, scenario)
    count = trial.counts()[call]
    for n in range(1 if FULL else count, count + 1) if call in KILLED else ():
        trial.kills += 1
        trial.attempt(call, f"{call}:signal=KILL:when={n}", killed=True)
    for n, error in attempts(call, count):
        trial.faults += 1
        trial.attempt(call, failing(call, n, error), killed=False)
    trial.finish()


# ---------------------------------------------------------------------------------------------- reading, and asking for a writer


class Reading(Trial):
    """strace is around the whole start; of its calls only those that concern the cache count, but for ASKING."""

    def start(self, options: list[str]) -> None:
        self.lay_out()
        strace = [shutil.which("strace"), "-f", "-o", self.log]
        self.run(wrap=[*strace, *options])
        wait_for_sealers(self.runner.warm_cache)

    def paths(self) -> list[str]:
        folder = self.runner.warm_cache
        self.lay_out()
        (base,) = (path for path in folder.glob("*.pla") if not path.name.endswith(".delta.pla"))
        files = [base, *(f"{base}{end}" for end in (".note", ".lock"))]
        files += [folder, base.with_suffix(".delta.pla")]
        return [x for path in files for x in ("-P", str(path))]

    def meet(self, options: list[str], inject: str) -> None:
        self.start([*options, "-e", f"inject={inject}"])
        assert self.happened()
        self.is_healthy_next(may_lose=False)


@pytest.fixture
def straced(ours) -> Runner:
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    return ours


@pytest.mark.parametrize("scenario", READERS)
def test_reader_meets_an_error_at_every_step(straced, stage, scenario):
    trial = Reading(straced, stage, *READERS[scenario])
    paths = trial.paths()
    trial.start(paths)
    counts = trial.counts()
    assert (
        counts.keys() <= ERRORS.keys() and counts["mmap"] == len(READERS[scenario][1].split()) - 2
    )
    for call in counts if FULL else ("openat", "mmap"):
        for n, error in attempts(call, counts[call]):
            trial.faults += 1
            trial.attempt(paths, failing(call, n, error))
    trial.finish()


def test_who_asks_for_a_writer_meets_an_error_at_every_step(straced, stage):
    """The job that is handed over, and the process that takes it."""
    trial = Reading(straced, stage, "base", f"{BASE} small0")
    for call in ASKING:
        options = ["-e", f"trace={call}"]
        trial.start(options)
        # Of the first process; but what it writes to its own output is the program's.
        log = trial.log.read_text()
        made = re.findall(rf"^{log.split()[0]} +{call}\((\w*)", log, re.MULTILINE)
        assert made
        for n, error in attempts(call, len(made)):
            if call == "write" and made[n - 1] in ("1", "2"):
                continue
            trial.faults += 1
            trial.attempt(options, failing(call, n, error))
    trial.finish()
