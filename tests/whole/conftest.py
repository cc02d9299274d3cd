# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""What every whole-binary test shares: a clean environment, the four ways to run a program, and stock Python to compare with.

The same test runs four times. `stock` runs the real interpreter alone and proves that the expectation is right; `off`,
`cold` and `warm` run pylaunch without an archive, on an empty one, and on one that the same command has filled. Results are
compared byte for byte; only the path of the executable may differ.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import quick
import stretches

ROOT = Path(__file__).resolve().parents[2]
# PYLAUNCH_TEST_MODES=stock,warm runs some of them only; a fifth, `image`, only when it is named.
MODES = os.environ.get("PYLAUNCH_TEST_MODES", "stock,off,cold,warm").split(",")
# What takes longer hangs. A start of transformers takes a minute where others use the machine, too.
TIMEOUT = 120
# Sources and folders younger than two seconds are never archived ("racily clean"), so fixtures age what they write.
AGE = 100
# Nothing may run beside what measures how long others wait, types on a terminal, or must hit a moment with a signal: scripts/test
# runs these tests one after the other, all others on every processor.
serial = pytest.mark.serial


def pytest_configure(config) -> None:
    gc.disable()  # Thousands of tests to collect, in each of many workers, and no garbage.
    config.addinivalue_line("markers", "serial: nothing may run beside it")
    for name, words in quick.MARKS.items():
        config.addinivalue_line("markers", f"{name}: {words}")


def pytest_addoption(parser) -> None:
    words = "of each test those variants that quick.py says"
    parser.addoption("--quick", action="store_true", help=words)
    words = "of those what falls to the I-th of N further Pythons (from 0)"
    parser.addoption("--turn", metavar="I/N", help=words)


def pytest_collection_modifyitems(config, items) -> None:
    gc.enable()
    config.stash[quick.COLLECTED] = list(items)
    turn = config.getoption("--turn")
    turn = tuple(map(int, turn.split("/"))) if turn else None
    kept = quick.selection(items, config.getoption("--quick"), turn)
    config.hook.pytest_deselected(items=[x for x in items if x.nodeid not in kept])
    items[:] = [x for x in items if x.nodeid in kept]
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    items[:] = stretches.in_order(
        items, workers, lambda item: item.get_closest_marker("one_worker")
    )


# A shell starts background jobs with the first two ignored, nohup with the third, and programs would inherit that.
for _number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(
            _number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL
        )


# ---------------------------------------------------------------------------------------------- results


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    def warnings(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("pylaunch: warning:")]

    def archive_counts(self) -> tuple[int, int, int]:
        """Hits, misses and stale entries, as --explain tells them."""
        found = re.findall(r"archive: (\d+) hits?, (\d+) miss(?:es)?, (\d+) stale", self.err)
        assert found, f"--explain told nothing about the archive:\n{self.err}"
        hits, misses, stale = found[-1]
        return int(hits), int(misses), int(stale)

    def without_pylaunch_lines(self) -> Result:
        kept = [x for x in self.err.splitlines(keepends=True) if not x.startswith("pylaunch: ")]
        return Result(self.code, self.out, "".join(kept))


# ---------------------------------------------------------------------------------------------- trees


class Tree:
    """A folder of files whose stamps lie safely in the past."""

    def __init__(self, root: Path):
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    def __str__(self) -> str:
        return str(self.root)

    def write(self, files: Mapping[str, str | bytes], age: float = AGE) -> Tree:
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode() if isinstance(text, str) else text)
        return self.settle(age, only=[self.root / name for name in files])

    def settle(self, age: float = AGE, only: Sequence[Path] = ()) -> Tree:
        """Moves the modification times of `only` and of every folder into the past."""
        then = time.time() - age
        for path in only:
            os.utime(path, (then, then), follow_symlinks=False)
        for folder, _, _ in os.walk(self.root, topdown=False):
            with contextlib.suppress(OSError):
                os.utime(folder, (then, then))
        return self

    def drop_pycs(self) -> Tree:
        for folder in list(self.root.rglob("__pycache__")):
            shutil.rmtree(folder, ignore_errors=True)
        return self.settle()

    def pycs(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.root)): p.read_bytes() for p in self.root.rglob("*.pyc")}

    def clear(self) -> Tree:
        for path in self.root.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        return self


# ---------------------------------------------------------------------------------------------- processes


def clean_environment(home: Path, **extra: str) -> dict[str, str]:
    """The outer environment without anything that steers Python or pylaunch."""
    dropped = re.compile(r"PYTHON|PYLAUNCH_|PYENV_|VIRTUAL_ENV|CONDA|LD_|XDG_|COV_|PYTEST|LC_|LANG")
    env = {name: value for name, value in os.environ.items() if not dropped.match(name)}
    env.update(HOME=str(home), LANG="C.UTF-8", TERM="dumb", TZ="UTC", NO_COLOR="1")
    env.update(extra)
    return env


def start(argv, env, cwd, stdin=None, stdout=None, stderr=None, **kwargs) -> subprocess.Popen:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [os.fspath(x) for x in argv],
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        stdout=pipe if stdout is None else stdout,
        stderr=pipe if stderr is None else stderr,
        **kwargs,
    )


def finish(process: subprocess.Popen, data: bytes | None = None, timeout: float = TIMEOUT):
    try:
        out, err = process.communicate(data, timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"no end after {timeout} s: {process.args}\n{out!r}\n{err!r}")
    return process.returncode, out or b"", err or b""


def sealers(folder: Path | None = None) -> list[int]:
    """Process ids of the sealers at work, or of those that have a file in `folder` open."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            comm = Path("/proc", entry, "comm").read_text()
            if not comm.startswith("pylaunch-seal") or not alive(int(entry)):
                continue
            files = [os.readlink(fd) for fd in Path("/proc", entry, "fd").iterdir()]
            if folder is None or any(name.startswith(f"{folder}/") for name in files):
                found.append(int(entry))
    return found


def process_state(pid: int) -> str:
    """As proc_pid_stat(5) has it, "Z" of a zombie; or "gone"."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "gone"


def alive(pid: int) -> bool:
    return process_state(pid) not in ("gone", "Z")


def wait_until(condition, what: str, timeout: float = 20, every: float = 0.01):
    """The first true value of `condition()`, which is asked every so many seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(every)
    pytest.fail(f"not within {timeout} s: {what}")


def children(pid: int) -> list[int]:
    """Process ids; none of a process that is gone."""
    try:
        return [int(x) for x in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def wait_for_sealers(folder: Path | None = None, timeout: float = TIMEOUT) -> None:
    """Returns when the sealers of now have ended and, if a folder is given, nobody holds an archive's lock in it.

    Those of tests that run beside this one count, too: whom a sealer that has just begun works for cannot be seen.
    """
    deadline = time.monotonic() + timeout
    waiting = set(sealers())
    while time.monotonic() < deadline:
        waiting &= set(sealers())
        if not waiting and not (folder and any(map(_is_locked, folder.rglob("*.lock")))):
            return
        time.sleep(0.02)
    pytest.fail(f"sealers {sorted(waiting)} still run after {timeout} s")


def _is_locked(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def archives(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.pla"))


# ---------------------------------------------------------------------------------------------- pseudo terminals


def tty_session(argv, env, cwd, script: Sequence[tuple[str, str]], timeout: float = 20):
    """Runs `argv` on a pseudo terminal; for each (expected, typed) waits for the one and types the other.

    Returns the exit code and everything that the terminal showed.
    """
    import pty

    pid, master = pty.fork()
    if pid == 0:
        try:
            os.chdir(cwd)
            os.execve(argv[0], [os.fspath(x) for x in argv], env)
        finally:
            os._exit(127)
    shown = b""
    seen = 0
    deadline = time.monotonic() + timeout

    def read() -> bool:
        nonlocal shown
        ready, _, _ = select.select([master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            pytest.fail(f"the terminal fell silent after {shown.decode(errors='replace')!r}")
        try:
            data = os.read(master, 65536)
        except OSError:  # EIO: the last descriptor of the other end is closed.
            return False
        shown += data
        return bool(data)

    try:
        for expected, typed in script:
            while expected.encode() not in shown[seen:]:
                assert read(), f"{expected!r} never came: {shown!r}"
            seen = shown.index(expected.encode(), seen) + len(expected)
            os.write(master, typed.encode())
        while read():
            pass
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(master)
    return os.waitstatus_to_exitcode(status), shown.decode(errors="replace")


# ---------------------------------------------------------------------------------------------- the four runners


@dataclass
class Lab:
    """The binaries under test and what is known about the interpreter."""

    python: Path
    pylaunch: Path
    home: Path
    version: tuple[int, int]
    facts: dict = field(default_factory=dict)
    known: dict = field(
        default_factory=dict
    )  # What stock did, for programs that always do the same.

    def need_pylaunch(self) -> None:
        if not os.access(self.pylaunch, os.X_OK):
            pytest.skip(f"{self.pylaunch} is not built")


class Runner:
    """Runs a program in one mode, and under stock to compare with."""

    def __init__(self, lab: Lab, mode: str, base: Path, warm_cache: Path):
        self.lab = lab
        self.mode = mode
        self.base = base
        self.warm_cache = warm_cache
        self.cwd: Path = base
        self.python: Path = lab.python
        self.runs = 0

    @property
    def keeps(self) -> bool:
        """A first run leaves what a second one uses."""
        return self.mode in ("warm", "image")

    # Which command line a mode stands for. A cold run gets a folder of its own each time.
    def cache(self) -> Path:
        if self.keeps:
            return self.warm_cache
        self.runs += 1
        return self.base / f"cache-{self.mode}-{self.runs}"

    def launch(self, cache: Path | None = None, mode: str | None = None) -> list[str]:
        mode = mode or self.mode
        if mode == "stock":
            return [str(self.python)]
        flags = [str(self.lab.pylaunch), "--python", str(self.python)]
        if mode == "off":
            return [*flags, "--cache-mode=off"]
        if mode == "image":
            flags.append("--image")
        return [*flags, "--cache", str(cache or self.cache())]

    def env(self, extra: Mapping[str, str | None] | None = None) -> dict[str, str]:
        env: dict[str, str | None] = {**clean_environment(self.lab.home), **(extra or {})}
        return {name: value for name, value in env.items() if value is not None}

    def _run(self, launch, args, input, env, cwd, wrap, timeout, **kwargs) -> Result:
        data = input.encode() if isinstance(input, str) else input
        if data is not None:
            kwargs["stdin"] = subprocess.PIPE
        process = start([*wrap, *launch, *map(str, args)], self.env(env), cwd or self.cwd, **kwargs)
        code, out, err = finish(process, data, timeout)
        return Result(code, self._plain(out), self._plain(err))

    def _plain(self, data: bytes) -> str:
        text = data.decode(errors="backslashreplace")
        for path in (self.lab.pylaunch, self.python):
            text = text.replace(str(path), "<python>")
        return text

    def __call__(
        self, *args, input=None, env=None, cwd=None, wrap=(), flags=(), timeout=TIMEOUT, **kwargs
    ) -> Result:
        """Runs the program once in this mode; `flags` are pylaunch's own, left out under stock."""
        cache = self.cache()
        launch = self.launch(cache)
        if self.keeps:
            self.warm(*args, input=input, env=env, cwd=cwd, flags=flags, cache=cache)
        if self.mode != "stock":
            launch += list(map(str, flags))
        return self._run(launch, args, input, env, cwd, wrap, timeout, **kwargs)

    def warm(self, *args, input=None, env=None, cwd=None, flags=(), cache=None) -> Result | None:
        """Runs the program so that the archive holds what it needs; nothing to do in the other modes."""
        if not self.keeps:
            return None
        launch = [*self.launch(cache or self.warm_cache), *map(str, flags)]
        env = {**(env or {}), "PYLAUNCH_SEAL": "wait"}
        result = self._run(launch, args, input, env, cwd, (), TIMEOUT)
        if any(re.match(r"-[A-Za-z]*[EI]", str(x)) for x in args):  # -E hides PYLAUNCH_SEAL.
            wait_for_sealers()
        return result

    def again(self, *args, input=None, env=None, cwd=None, wrap=(), flags=(), **kwargs) -> Result:
        """Runs the program exactly once, on whatever the archive holds by now (an empty one in a cold run)."""
        launch = self.launch(self.cache())
        if self.mode != "stock":
            launch += list(map(str, flags))
        return self._run(launch, args, input, env, cwd, wrap, TIMEOUT, **kwargs)

    def prime(self, tree: Tree, *args, **kwargs) -> None:
        """Lets the mode see `tree`: Python writes its .pyc files, and a warm archive then holds folders and modules."""
        if self.keeps:
            self.warm(*args, **kwargs)
            tree.settle()  # Writing __pycache__ made the folders too young to be proved.
            self.warm(*args, **kwargs)
        else:
            self.again(*args, **kwargs)

    def stock(
        self, *args, input=None, env=None, cwd=None, wrap=(), timeout=TIMEOUT, **kw
    ) -> Result:
        launch = self.launch(mode="stock")
        return self._run(launch, args, input, env, cwd, wrap, timeout, **kw)

    def stock_once(self, *args, **kwargs) -> Result:
        """The same as stock(), remembered: only for programs that do the same every time."""
        key = repr((args, sorted(kwargs.items()), self.cwd, self.python))
        if key not in self.lab.known:
            self.lab.known[key] = self.stock(*args, **kwargs)
        return self.lab.known[key]

    def _prepare(self, args, kwargs, flags, tree) -> None:
        if self.keeps:
            kwargs = {k: v for k, v in kwargs.items() if k in ("input", "env", "cwd")}
            self.warm(*args, flags=flags, **kwargs)
            if tree:
                tree.settle()
                self.warm(*args, flags=flags, **kwargs)

    def same(
        self, *args, mend=None, before=None, tree=None, once=False, prime=True, **kwargs
    ) -> Result:
        """Runs the program under stock and in this mode, asserts that both did the same, and returns what.

        `before()` runs before each, to lay things out again; `tree` is a folder that a warm archive is to hold too;
        `mend(text)` evens out what may differ; `once` lets the four modes share one run of stock; `prime=False` says
        that what the session's warm archive holds from the start is enough.
        """
        if before:
            before()
        kwargs.pop("timeout", None)
        flags = kwargs.pop("flags", ())
        expected = (self.stock_once if once else self.stock)(*args, **kwargs)
        if self.mode == "stock":
            return expected
        if before:
            before()
        if prime:
            self._prepare(args, kwargs, flags, tree)
        got = self.again(*args, flags=flags, **kwargs)
        mend = mend or (lambda text: text)
        assert mend(got.out) == mend(expected.out)
        assert mend(got.err) == mend(expected.err)
        assert got.code == expected.code
        return got

    def same_json(
        self,
        *args,
        tolerate: Mapping[str, object] | None = None,
        before=None,
        tree=None,
        **kwargs,
    ):
        """The same for a program that prints one JSON object: compared key by key, for readable failures.

        `tolerate` names keys that are compared by `tolerate[key](expected, got)` instead of `==`.
        """
        if before:
            before()
        flags = kwargs.pop("flags", ())
        expected = self.stock_once(*args, **kwargs)
        assert expected.code == 0, expected.err
        if self.mode == "stock":
            return expected.json
        if before:
            before()
        self._prepare(args, kwargs, flags, tree)
        got = self.again(*args, flags=flags, **kwargs)
        assert got.err == expected.err
        assert got.code == 0
        want, have = expected.json, got.json
        wrong = {
            key: (want.get(key, "(absent)"), have.get(key, "(absent)"))
            for key in sorted({*want, *have})
            if want.get(key) != have.get(key)
            and not (tolerate and key in tolerate and tolerate[key](want.get(key), have.get(key)))
        }
        assert not wrong, "stock and pylaunch differ:\n" + "\n".join(
            f"  {key}:\n    stock    {a!r}\n    pylaunch {b!r}" for key, (a, b) in wrong.items()
        )
        return have

    def tty(self, *args, script, env=None, cwd=None) -> tuple[int, str]:
        cache = self.cache()
        outcome = (0, "")
        for _ in range(2 if self.keeps else 1):
            argv = [*self.launch(cache), *map(str, args)]
            extra = {**(env or {}), "PYLAUNCH_SEAL": "wait"}
            outcome = tty_session(argv, self.env(extra), cwd or self.cwd, script)
        return outcome[0], self._plain(outcome[1].encode())


# ---------------------------------------------------------------------------------------------- fixtures


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Lab:
    python = os.environ.get("PYLAUNCH_TEST_PYTHON") or sys.executable
    probe = (
        "import json, sys, sysconfig;"
        "print(json.dumps([getattr(sys, '_base_executable', sys.executable), sys.version_info[:2],"
        " sysconfig.get_config_var('Py_ENABLE_SHARED') or 0]))"
    )
    home = tmp_path_factory.mktemp("home")
    text = subprocess.check_output([python, "-c", probe], env=clean_environment(home))
    base, version, shared = json.loads(text)
    binary = Path(os.environ.get("PYLAUNCH_BIN", ROOT / "build" / "pylaunch")).absolute()
    return Lab(Path(base), binary, home, tuple(version), {"shared": bool(shared)})


@pytest.fixture(scope="session")
def warm_cache(lab, tmp_path_factory) -> Path:
    """The archive that warm runs share: filled with the standard library's better-known modules."""
    folder = tmp_path_factory.mktemp("warm")
    if os.access(lab.pylaunch, os.X_OK) and "warm" in MODES:
        runner = Runner(lab, "warm", folder, folder)
        names = "asyncio ctypes concurrent.futures.thread decimal email.message json json.tool logging multiprocessing pdb"
        names += " pickle pydoc resource runpy subprocess tempfile timeit traceback weakref wave zipfile unittest"
        assert runner.warm("-c", f"import {', '.join(names.split())}").code == 0
    return folder


@pytest.fixture(params=MODES)
def run(request, lab: Lab, tmp_path: Path, warm_cache: Path) -> Runner:
    """A runner for each of the four modes."""
    if request.param != "stock":
        lab.need_pylaunch()
    return Runner(lab, request.param, tmp_path, warm_cache)


@pytest.fixture
def ours(lab: Lab, tmp_path: Path) -> Runner:
    """A runner on an archive of the test's own, for what stock Python does not have."""
    lab.need_pylaunch()
    return Runner(lab, "warm", tmp_path, tmp_path / "cache")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "tree")


@pytest.fixture(scope="session")
def installed(lab: Lab, tmp_path_factory) -> Iterator[Path]:
    """A throw-away virtual environment (with pip) into which pylaunch has been installed as a user would."""
    lab.need_pylaunch()
    prefix = tmp_path_factory.mktemp("installed") / "venv"
    env = clean_environment(lab.home)
    subprocess.run(
        [lab.python, "-m", "venv", prefix], env=env, check=True, stdout=subprocess.DEVNULL
    )
    builds = [lab.pylaunch.parent, ROOT / "build"]
    build = next((x for x in builds if (x / "cmake_install.cmake").exists()), None)
    if build is None:
        pytest.skip("no build folder to install from")
    subprocess.run(
        ["cmake", "--install", build, "--prefix", prefix],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    if not (prefix / "bin" / "pylaunch").exists():
        pytest.fail("cmake --install left no bin/pylaunch")
    yield prefix


@pytest.fixture(scope="session")
def ordinary_root() -> list[str]:
    """A command prefix that takes away root's power to ignore file modes; [] for an ordinary user."""
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        pytest.skip("needs setpriv to drop root's capabilities")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@pytest.fixture
def image(lab: Lab, tmp_path: Path):
    """--image on a cache of its own."""
    from imaged import Imaged  # Which needs this module.

    lab.need_pylaunch()
    return Imaged(lab, tmp_path / "image")
