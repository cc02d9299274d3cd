# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""What preloading sets before the program can: --doctor and --explain name the entry and the state,
and the doctor what becomes of the program's own call."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import clean_environment

SETS = {
    "multiprocessing's start method": ("import multiprocessing; multiprocessing.set_start_method('spawn')", "spawn"),
    "logging's root handlers": ("import logging; logging.basicConfig()", "StreamHandler"),
    "logging's root level": ("import logging; logging.root.setLevel('DEBUG')", "DEBUG"),
    "warnings filters": ("import warnings; warnings.simplefilter('error', UserWarning)", "error UserWarning"),
    "the handler of SIGUSR1": ("import signal\ndef deaf(*_): pass\nsignal.signal(signal.SIGUSR1, deaf)", "deaf"),
    "the default timeout of sockets": ("import socket; socket.setdefaulttimeout(5)", "5.0"),
    "sys.excepthook": ("import sys\ndef hook(*_): pass\nsys.excepthook = hook", "sets.hook"),
    "standard streams": ("import io, sys; sys.stdout = io.StringIO()", "stdout is a StringIO"),
    "the recursion limit": ("import sys; sys.setrecursionlimit(1234)", "1234"),
}  # fmt: skip


class Place:
    def __init__(self, lab, folder):
        self.lab, self.folder = lab, folder

    def write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        return str(self.folder / name)

    def run(self, *args, python: str = "", **env: str):
        self.lab.need_pylaunch()
        full = clean_environment(
            self.lab.home,
            PYTHONPATH=str(self.folder),
            PYLAUNCH_CACHE=str(self.folder / "cache"),
            **env,
        )
        command = [str(self.lab.pylaunch), "--python", python or self.lab.python, *map(str, args)]
        return subprocess.run(command, cwd=self.folder, env=full, capture_output=True, text=True)

    def doctor(self, *args, **kwargs) -> tuple[list[dict], list[dict]]:
        """The findings of entries, and those of what the program sets too late."""
        got = self.run("--doctor", "--json", *args, **kwargs)
        checks = json.loads(got.stdout)["checks"]
        return tuple([c for c in checks if c["family"] == x] for x in ("entries", "preloading"))


@pytest.fixture
def place(lab, tmp_path) -> Place:
    return Place(lab, tmp_path)


@pytest.mark.parametrize("state", SETS)
def test_the_entry_and_what_it_sets_are_named(place, state):
    code, value = SETS[state]
    place.write("sets.py", code)
    entries, _ = place.doctor("--preload", "import json", "--preload", "import sets")
    assert [c["details"] for c in entries] == [{}, {"sets": {state: value}}]
    assert entries[1]["what"].endswith(f"'import sets' loads, and sets {state} ({value})")
    got = place.run("--explain", "--preload", "import json, sets", "-c", "pass")
    told = [line for line in got.stderr.splitlines() if " sets " in line]
    if state == "the handler of SIGUSR1":
        assert not told
    else:
        (line,) = told
        assert line.endswith(f" sets {state} ({value})") and "sets'" in line


def test_the_standard_library_sets_nothing(place):
    names = "asyncio, concurrent.futures, ctypes, decimal, http.client, locale, logging, multiprocessing, signal, socket, ssl, unittest"
    entries, _ = place.doctor("--preload", f"import {names}")
    assert {c["status"] for c in entries} == {"ok"} and not any(c["details"] for c in entries)


def test_a_start_method_that_the_program_cannot_set_any_more(place):
    place.write("eager.py", SETS["multiprocessing's start method"][0])
    program = "import multiprocessing\n\nmultiprocessing.set_start_method('fork'{})\n"
    script = place.write("train.py", program.format(""))
    flags = ["--preload", "import eager", script]
    _, (check,) = place.doctor(*flags)
    assert check["what"] == f"{script}:3: set_start_method() can set multiprocessing's start method"
    assert check["status"] == "warning"
    assert "'import eager' has set multiprocessing's start method (spawn)" in check["cause"]
    assert "context has already been set" in place.run(*flags).stderr
    place.write("train.py", program.format(", force=True"))
    assert place.doctor(*flags)[1] == []
    place.write("train.py", "print('sets nothing')\n")
    assert place.doctor(*flags)[1] == []


def test_a_log_that_the_program_cannot_configure_any_more(place):
    place.write("eager.py", SETS["logging's root handlers"][0])
    script = place.write("train.py", "import logging\nlogging.basicConfig(level=10)\n")
    _, (check,) = place.doctor("--preload", "import eager", script)
    assert "the call does nothing, since there are handlers" in check["cause"]


def test_patching_by_gevent_that_comes_too_late(place, tmp_path_factory):
    """Followed, the hint makes the program's patches come in time."""
    prefix = tmp_path_factory.mktemp("gevent") / "venv"
    subprocess.run([place.lab.python, "-m", "venv", "--without-pip", prefix], check=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        prefix / "bin/python",
        "install",
        "-q",
        "gevent",
    ]
    subprocess.run(pip, check=True, capture_output=True)
    python = str(prefix / "bin/python")
    script = place.write(
        "serve.py",
        "import gevent.monkey\ngevent.monkey.patch_all()\nimport ssl, gevent.ssl\nprint(ssl.SSLContext is gevent.ssl.SSLContext)\n",
    )
    late, in_time = place.folder / "late.txt", place.folder / "in_time.txt"
    place.write("client.py", "from ssl import SSLContext\n")
    late.write_text("import http.client\nimport client\n")
    in_time.write_text("call gevent.monkey:patch_all\nimport client\n")
    _, (check,) = place.doctor("--preload", late, script, python=python)
    assert check["what"] == f"{script}:2: gevent can patch ssl.SSLContext in time"
    assert "late.txt:2:1: 'import client' has loaded client, which has ssl.SSL" in check["cause"]
    assert check["hint"] == "put 'call gevent.monkey:patch_all' first into the preload file"
    assert "MonkeyPatchWarning" in place.run("--preload", late, script, python=python).stderr
    assert place.doctor("--preload", in_time, script, python=python)[1] == []
    got = place.run("--preload", in_time, script, python=python)
    assert (got.returncode, got.stdout, got.stderr) == (0, "True\n", "")
