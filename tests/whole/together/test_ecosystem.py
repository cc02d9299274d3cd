# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""Well-known programs, each by its real entry point: under pylaunch they do what they do under stock, and so do their children.

A quick core runs by default; PYLAUNCH_ECOSYSTEM=full adds what is slow to install or to start.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT, Result, clean_environment, finish, start, tty_session, wait_for_sealers

sys.path.insert(0, str(ROOT / "tests" / "conformance"))
from engine_watch import EngineWatch
from layout import Prefix, make_prefix

PROGRAMS = ROOT / "tests/programs/ecosystem"
FULL = os.environ.get("PYLAUNCH_ECOSYSTEM") == "full"
full = pytest.mark.skipif(not FULL, reason="slow: PYLAUNCH_ECOSYSTEM=full runs it")

pytestmark = pytest.mark.one_worker


@pytest.fixture(scope="session")
def prefix(lab, tmp_path_factory) -> Prefix:
    lab.need_pylaunch()
    requirements = PROGRAMS / ("requirements-full.txt" if FULL else "requirements.txt")
    folder = tmp_path_factory.mktemp("ecosystem") / "venv"
    return make_prefix(str(lab.python), lab.pylaunch.parent, folder, requirements)


@dataclass
class Outcome:
    """Of a run under pylaunch that was the same as under stock."""

    result: Result
    children: int  # Processes under pylaunch that the program started.
    hits: list[int]  # Of the archive, of each process that lived to tell.


class Bench:
    """Runs a program under stock, then cold and warm under pylaunch, each in a fresh copy of the programs' folder."""

    def __init__(self, prefix: Prefix, folder: Path, home: Path):
        self.prefix = prefix
        self.folder = folder
        self.env = clean_environment(home)
        self.work = folder / "work"

    def lay_out(self) -> Path:
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(PROGRAMS, self.work, ignore=shutil.ignore_patterns("__pycache__"))
        for path in self.work.rglob("*"):  # Too young, they would never be archived.
            os.utime(path, (time.time() - 100,) * 2)
        return self.work

    def explained(self) -> dict[str, str]:
        return {**self.env, "PYLAUNCH_CACHE": str(self.folder / "cache"), "PYLAUNCH_EXPLAIN": "1"}

    def run(self, python: Path, args, env, timeout) -> Result:
        process = start([python, *args], env, self.lay_out())
        code, out, err = finish(process, timeout=timeout)
        return Result(code, self.plain(out.decode()), self.plain(err.decode()))

    def plain(self, text: str) -> str:
        return text.replace(str(self.prefix.pylaunch), "<python>").replace(
            str(self.prefix.stock), "<python>"
        )

    def same(self, *args, children: int, mend=lambda text: text, timeout=120) -> Outcome:
        stock = self.run(self.prefix.stock, args, self.env, timeout)
        assert stock.code == 0, stock.err
        outcome = None
        for _ in ("cold", "warm"):
            with EngineWatch(self.prefix.engine) as watch:
                result = self.run(self.prefix.pylaunch, args, self.explained(), timeout)
            wait_for_sealers(self.folder / "cache")
            hits = [int(n) for n in re.findall(r"archive: (\d+) hits", result.err)]
            outcome = Outcome(result.without_pylaunch_lines(), watch.count - 1, hits)
            assert mend(outcome.result.out) == mend(stock.out)
            assert mend(outcome.result.err) == mend(stock.err)
            assert outcome.result.code == stock.code
            assert outcome.children >= children
        return outcome


@pytest.fixture
def bench(prefix, lab, tmp_path) -> Bench:
    return Bench(prefix, tmp_path, lab.home)


def without_times(text: str) -> str:
    return re.sub(r"\d+\.\d+ ?m?s\b|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+|\d\d-\d\d-\d\d", "#", text)


def without_log_times(text: str) -> str:
    """Of torch's log lines the severity: what follows is date, time and process."""
    return re.sub(r"^([VIWEC])\d{4} [\d:.]+ \d+ ", r"\1 ", text, flags=re.M)


# ---------------------------------------------------------------------------------------------- packaging


@pytest.mark.full
def test_pip_builds_and_installs(bench, prefix):
    """What pip writes must not depend on pylaunch, so under pip sys.executable is stock's, and so are its children."""
    command = [
        "-m",
        "pip",
        "install",
        "--no-index",
        "--no-build-isolation",
        "--force-reinstall",
        ".",
    ]
    subprocess.run([prefix.stock, *command], env=bench.env, cwd=bench.lay_out(), check=True)

    def mend(text):
        return re.sub(r"(?s)Created wheel.*?Stored.*?\n|/tmp/\S+", "#", text)

    outcome = bench.same(*command, children=0, mend=mend)
    assert outcome.hits[-1] > 100
    script = prefix.folder / "bin" / "demo"
    assert script.read_text().splitlines()[0] == f"#!{prefix.stock}"


def test_venv_made_by_pylaunch_is_stocks(bench, prefix):
    made = []
    for python in (prefix.stock, prefix.pylaunch):
        folder = bench.lay_out() / "made"
        subprocess.run(
            [python, "-m", "venv", "--without-pip", folder],
            env=bench.env,
            check=True,
            cwd=bench.work,
        )
        links = {x.name: os.readlink(x) for x in (folder / "bin").iterdir() if x.is_symlink()}
        scripts = {
            x.name: x.read_text()
            for x in (folder / "bin").iterdir()
            if not x.is_symlink() and x.suffix != ".exe"
        }
        made.append((links, scripts, bench.plain((folder / "pyvenv.cfg").read_text())))
    assert made[0] == made[1]


# ---------------------------------------------------------------------------------------------- tests and coverage


def test_pytest(bench, prefix):
    args = [prefix.folder / "bin" / "pytest", "-v", "-p", "no:cacheprovider", "tested/children.py"]
    outcome = bench.same(*args, children=3, mend=without_times)
    assert "5 passed" in outcome.result.out


def test_coverage_of_children(bench, prefix):
    coverage = prefix.folder / "bin" / "coverage"
    program = (
        "import subprocess, sys\n"
        f"def cover(*args): subprocess.run([sys.executable, {str(coverage)!r}, *args], check=True)\n"
        "cover('run', 'covered.py')\n"
        "cover('combine', '-q')\n"
        "cover('report', '-m')\n"
    )
    outcome = bench.same("-c", program, children=4)
    assert re.search(r"covered\.py +\d+ +1 +\d+% +6", outcome.result.out)


@full
def test_debugpy(bench):
    """Follows a spawned child: it warns in each process that it is in."""
    program = ["--listen", "127.0.0.1:0", "covered.py"]
    outcome = bench.same(
        "-m", "debugpy", *program, children=0, mend=lambda text: re.sub(r"\d+\.\d+s", "#", text)
    )
    assert outcome.result.err.count("frozen modules are being used") == 3
    assert outcome.result.out.endswith("4 0\n")


# ---------------------------------------------------------------------------------------------- parallel


def test_joblib(bench):
    outcome = bench.same("loky.py", children=2)
    assert "[0, 1, 2]" in outcome.result.out


def test_hydra(bench):
    outcome = bench.same("hydra_app.py", "size=large", "+more=[1,2]", children=0)
    assert outcome.result.out == "{'x': 1, 'size': {'rows': 9}, 'more': [1, 2]}\n"
    assert outcome.hits[-1] > 100


def test_hydra_multirun(bench):
    sweep = ["--multirun", "x=1,2", "size=small,large"]
    outcome = bench.same("hydra_app.py", *sweep, children=0, mend=without_times)
    assert outcome.result.out.count("'rows'") == 4


def test_hydra_multirun_by_joblib(bench):
    def in_any_order(text):
        return sorted(without_times(text).splitlines())

    sweep = ["--multirun", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "x=1,2"]
    bench.same("hydra_app.py", *sweep, children=2, mend=in_any_order)


@full
@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_torch_data_loader(bench, context):
    bench.same("loader.py", context, children=0 if context == "fork" else 2, timeout=300)


@full
def test_torch_compile(bench):
    bench.env["TORCHINDUCTOR_CACHE_DIR"] = str(bench.folder / "inductor")
    bench.env["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
    outcome = bench.same("compiled.py", children=1, mend=without_log_times, timeout=600)
    assert outcome.result.out == "64.0\n"


# ---------------------------------------------------------------------------------------------- servers


def ask(path: Path, process: subprocess.Popen) -> bytes:
    """The body of a reply to GET / on a Unix socket, once the server listens."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
            with client.makefile("rb") as file:
                reply = file.read()
            if reply:
                return reply.partition(b"\r\n\r\n")[2]
        time.sleep(0.05)
    process.kill()
    pytest.fail(f"no reply: {process.communicate()}")


def serve(bench: Bench, python: Path, args, env, started=lambda: True) -> tuple[bytes, int]:
    """The body of a reply and the exit code; the server is told to end when all of it has `started`."""
    place = bench.lay_out()
    process = start([python, *args], env, place)
    body = ask(place / "socket", process)
    deadline = time.monotonic() + 60
    while not started() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    return body, finish(process)[0]


def same_service(bench: Bench, *args, children: int) -> None:
    stock = serve(bench, bench.prefix.stock, args, bench.env)
    assert stock[0].startswith(b'["3.')
    for _ in ("cold", "warm"):
        with EngineWatch(bench.prefix.engine) as watch:
            # The first worker may answer before the second has begun.
            ours = serve(
                bench,
                bench.prefix.pylaunch,
                args,
                bench.explained(),
                started=lambda watch=watch: watch.count - 1 >= children,
            )
        wait_for_sealers(bench.folder / "cache")
        assert ours == stock
        assert watch.count - 1 >= children


def test_gunicorn_with_preload(bench, prefix):
    options = ["--preload", "--workers=2", "--bind=unix:socket", "--no-control-socket", "web:wsgi"]
    same_service(bench, prefix.folder / "bin" / "gunicorn", *options, children=0)


def test_uvicorn_with_workers(bench, prefix):
    options = ["--workers=2", "--uds=socket", "web:asgi"]
    same_service(bench, prefix.folder / "bin" / "uvicorn", *options, children=2)


# ---------------------------------------------------------------------------------------------- screens


def test_tqdm_and_rich(bench):
    bench.same("bars.py", children=0, mend=lambda text: re.sub(r"\d:\d\d:\d\d", "#", text))


def test_tqdm_and_rich_on_a_terminal(bench, prefix):
    shown = []
    for python in (prefix.stock, prefix.pylaunch, prefix.pylaunch):
        env = {**bench.env, "PYLAUNCH_CACHE": str(bench.folder / "cache"), "COLUMNS": "100"}
        code, text = tty_session([str(python), "bars.py"], env, bench.lay_out(), [])
        shown.append((code, text.splitlines()[-12:]))
        wait_for_sealers(bench.folder / "cache")
    assert shown[0] == shown[1] == shown[2]


@full
def test_ipython_kernel(bench):
    outcome = bench.same("kernel.py", children=1)
    assert "KeyError 3" in outcome.result.out
