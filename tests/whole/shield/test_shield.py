# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""First imports by several threads: every cause in docs/import-races.md fails under stock Python and not under pylaunch, and
what works under stock is not hung, delayed or changed.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Result, clean_environment, serial, start

PROGRAMS = ROOT / "tests/programs/shield"
# A program that hangs ends itself with a dump of its threads after HANDS_LIMIT seconds (tests/programs/shield/hands.py).
HANG = 20
NEVER = (99, 0, 0)
# CPython releases that have a fix of their own. (Of d and h, the first in which it was seen.)
FIXED = {
    "a": (3, 13, 13),
    "c": (3, 15, 0),
    "d": (3, 13, 18),
    "e": (3, 13, 13),
    "g": (3, 12, 3),
    "h": (3, 13, 18),
    "k": (3, 15, 0),
}


class Shielded:
    """One interpreter, run as it is and under pylaunch."""

    def __init__(self, python: str, lab, cwd: Path):
        self.python = python
        self.lab = lab
        self.cwd = cwd
        probe = "import json, sys; print(json.dumps(sys.version_info[:3]))"
        env = clean_environment(lab.home)
        self.version = tuple(json.loads(subprocess.check_output([python, "-c", probe], env=env)))

    def run(self, how: str, *args, timeout=60, **variables) -> Result:
        launch = [self.python]
        if how != "stock":
            launch = [self.lab.pylaunch, "--python", self.python, "--cache-mode=off"]
        if how == "explain":
            launch.append("--explain")
        env = clean_environment(
            self.lab.home, HANDS_LIMIT=str(HANG), TMPDIR=str(self.cwd), **variables
        )
        process = start([*launch, *args], env, self.cwd, start_new_session=True)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # Forked children that hang hold our pipes.
            out, err = process.communicate()
            pytest.fail(f"no end after {timeout} s: {process.args}\n{out!r}\n{err!r}")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return Result(process.returncode, out.decode(), err.decode(errors="replace"))

    def cause(self, how: str, *args, **variables) -> dict[str, str]:
        result = self.run(how, "-W", "ignore", PROGRAMS / "causes.py", *args, **variables)
        assert result.code == 0, result
        lines = dict(line.split(": ", 1) for line in result.out.splitlines())
        told = [x for x in result.err.splitlines() if x.startswith("pylaunch: explain: shield: ")]
        lines["told"] = "\n".join(told)
        return lines


@pytest.fixture
def shielded(lab, tmp_path) -> Shielded:
    lab.need_pylaunch()
    return Shielded(str(lab.python), lab, tmp_path)


# ------------------------------------------------------------------------------------------ what stock gets wrong

# (cause, variant): thread: what it must come to; under stock something else, but see FIXED.
CAUSES = {
    ("a", "from"): {"two": "found"},
    ("a", "attribute"): {"two": "found"},
    ("a", "as"): {"two": "found"},
    ("a", "star"): {"two": "found"},
    ("a", "star_without_all"): {"two": "found"},
    ("a", "own_getattr"): {"two": "found own"},
    ("a", "delegating"): {"two": "foundmodule 'm' has no attribute 'nothing'"},
    ("b",): {"one": "whole", "two": "whole"},
    ("c",): {"one": "whole", "two": "1"},
    ("d",): {"one": "ok", "two": "found"},
    ("e", "always"): {"one": "ValueError: broken", "two": "ValueError: broken"},
    ("e", "always_dotted"): {"one": "ValueError: broken", "two": "ValueError: broken"},
    ("e", "once"): {"one": "ValueError: broken", "two": "('found', True, False)"},
    ("e", "once_from"): {"one": "ValueError: broken", "two": "found"},
    ("e", "own_exit"): {"one": "SystemExit: 3", "two": "SystemExit: 3"},
    ("f",): {"one": "whole", "child": "ok"},
    ("g",): {"one": "found", "two": "found", "class": "module"},
    ("h",): {"one": "found", "two": "found"},
    ("i",): {"child": "whole", "other": "whole"},
    ("j",): {"one": "whole", "two": "whole"},
    ("k",): {"one": "('found', 'whole')", "two": "('found', 'whole')"},
}
# Where CPython's own fix hands out the new module, that answers for itself.
CAUSES_FIXED = {("a", "own_getattr"): {"two": "found wrong"}}
# Neighbours of the above that are right under stock and stay as they are.
HARMLESS = [("a", "submodule"), ("a", "dotted"), ("a", "missing"), ("g", "failing")]


def is_fixed(shielded, cause) -> bool:
    return shielded.version >= FIXED.get(cause[0], NEVER)


def outcome(shielded, cause) -> dict[str, str]:
    return (is_fixed(shielded, cause) and CAUSES_FIXED.get(cause)) or CAUSES[cause]


@serial
@pytest.mark.parametrize("cause", CAUSES, ids="_".join)
def test_stock_fails_here(shielded, cause):
    expected = outcome(shielded, cause)
    got = shielded.cause("stock", *cause)
    right = all(got[name] == value for name, value in expected.items())
    assert right == is_fixed(shielded, cause), got


@pytest.mark.every_python
@serial
@pytest.mark.parametrize("cause", CAUSES, ids="_".join)
def test_cause_is_cured_and_told(shielded, cause):
    expected = outcome(shielded, cause)
    got = shielded.cause("explain", *cause)
    assert {name: got[name] for name in expected} == expected, got
    # The other thread did come into the import: not merely too late to be hurt. (h closes a window without a wait.)
    if cause[0] not in "ghj":
        assert "thread " in got["told"], got


# A body that blocks for longer than a thread that has nothing to do with it waits. `event`: only this process can end it.
BLOCKING = ["sleep", "child", "uninterruptible", "event"]
# Goes on beside a body that seems to wait for this process, as under stock.
GOES_ON = ["event", "naps"]


@serial
@pytest.mark.parametrize("kind", BLOCKING)
@pytest.mark.parametrize("cause", CAUSES, ids="_".join)
def test_cause_is_cured_where_bodies_block(shielded, cause, kind):
    if cause[0] == "d" and kind in GOES_ON:
        pytest.skip("the parent package is waited for only as long as that cannot be a deadlock")
    got = shielded.cause("pylaunch", *cause, HANDS_BLOCK=kind)
    expected = outcome(shielded, cause)
    assert {name: got[name] for name in expected} == expected, got


def ways_in(shielded, kind: str, ways: list[str], blocked: float = 0.7) -> dict[str, str]:
    """What eight threads come to, for each way in, that find a module whose body blocks so. The ways are tried side by side."""

    def come_to(way):
        args = (PROGRAMS / "waits.py", kind, way)
        result = shielded.run("pylaunch", *args, HANDS_BLOCKED=str(blocked))
        return result.out.strip() or str(result)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return dict(zip(ways, pool.map(come_to, ways), strict=True))


WAYS = re.findall(r'^    "(\w+)": ', (PROGRAMS / "waits.py").read_text(), re.MULTILINE)
KINDS = re.findall(r"^def _(\w+)\(\):$", (PROGRAMS / "hands.py").read_text(), re.MULTILINE)
KINDS.remove("fifo")


@serial
@pytest.mark.parametrize("kind", KINDS)
def test_module_is_whole_however_its_body_blocks(shielded, kind):
    ways = [way for way in WAYS if kind not in GOES_ON or "submodule" not in way]
    assert ways_in(shielded, kind, ways) == {
        way: f"{way}: first ok, then {{'Late': 8}}" for way in ways
    }


@serial
def test_module_is_whole_however_long_its_body_blocks(shielded):
    """Five seconds without an import end the wait of threads that have nothing to do with it."""
    ways = ["import_module", "submodule", "lazy_getattr", "lazy_from"]
    assert ways_in(shielded, "sleep", ways, 6) == {
        way: f"{way}: first ok, then {{'Late': 8}}" for way in ways
    }


@serial
def test_threads_get_whole_modules_out_of_random_circles(shielded):
    def come_to(seed):
        result = shielded.run("pylaunch", PROGRAMS / "circles.py", str(seed))
        return seed, result.out.strip() or str(result)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(come_to, range(24))) == [(seed, "ok") for seed in range(24)]


@serial
@pytest.mark.parametrize("blocks", [{}, {"HANDS_BLOCK": "sleep"}], ids=["", "blocks"])
@pytest.mark.parametrize("cause", HARMLESS, ids="_".join)
def test_neighbour_of_a_cause_is_as_under_stock(shielded, cause, blocks):
    stock = shielded.cause("stock", *cause, **blocks)
    assert shielded.cause("pylaunch", *cause, **blocks) == stock


@serial
@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (
            ("a", "from"),
            r"thread \d+ found 'late' of 'm', which had replaced itself in sys\.modules",
        ),
        (
            ("b",),
            r"thread \d+ waited \d+ ms for 'b' being imported by thread \d+|thread \d+ waited \d+ ms for thread \d+",
        ),
        (("e", "once"), r"thread \d+ imports 'm' again: the import it waited for failed"),
        (("f",), r"thread \d+ waited \d+ ms for thread \d+ \(which imports 'm'\) before it forked"),
    ],
    ids=["a", "b", "e", "f"],
)
def test_explain_tells_the_rescue(shielded, cause, told):
    if cause[0] == "a" and is_fixed(shielded, cause):
        pytest.skip("nobody is left with the old module")
    assert re.search(told, shielded.cause("explain", *cause)["told"])


@serial
def test_explain_is_silent_without_a_rescue(shielded):
    program = "import json, threading, asyncio\nt = threading.Thread(target=lambda: __import__('wave')); t.start(); t.join()"
    assert "shield" not in shielded.run("explain", "-c", program).err


# ------------------------------------------------------------------------------------------ what stock gets right

TRAPS = re.findall(r"^def ([a-z]\w+)\(\):$", (PROGRAMS / "traps.py").read_text(), re.MULTILINE)
TRAPS = [x for x in TRAPS if x != "gevent_patched"]
# Stock's own failures: a signal handler that imports meanwhile made it raise KeyError (gh-91351).
STOCK_FAILS = {"signal_while_waiting": (3, 12, 0)}
# A package's body that waits for another thread's import of a part of it: from its own fix of d on, stock hangs.
WAITS_FOR_ITS_PART = {
    "older_pool_imports_submodules",
    "own_thread_imports_submodules",
    "polls_for_submodule",
}
# Stock hangs here now and then (cause F, by chance): what it must come to is said here instead.
RACY = {
    "fork_while_importing": "{0}\none: 399\n",
    "multiprocessing_fork": "True\none: 99\n",
}
# How long imports that need not wait may be held up in all; 0.3 s is the time after which a blocked thread is not waited for.
AT_ONCE = {
    "joins",
    "joins_nested",
    "executor",
    "event_loop",
    "to_thread",
    "signal_while_importing",
    "own_thread_imports_submodules",
}


def split_delay(result: Result) -> tuple[Result, float]:
    found = re.search(r"delay=([0-9.]+)\n", result.out)
    assert found and result.code == 0, result
    return Result(result.code, result.out.replace(found[0], ""), result.err), float(found[1])


@serial
@pytest.mark.parametrize("trap", TRAPS)
def test_trap_is_as_under_stock(shielded, trap):
    if trap in WAITS_FOR_ITS_PART and is_fixed(shielded, ("d",)):
        pytest.skip("stock hangs")
    args = ("-W", "ignore", PROGRAMS / "traps.py", trap)
    got = shielded.run("pylaunch", *args)
    if trap in RACY:
        assert split_delay(got)[0] == Result(0, RACY[trap], "")
        return
    stock = shielded.run("stock", *args)
    if trap == "dead_holder":
        assert got == stock
        return
    got, delay = split_delay(got)
    if shielded.version < STOCK_FAILS.get(trap, (0,)):
        assert stock.code != 0
    else:
        assert got == split_delay(stock)[0]
    assert delay < (0.25 if trap in AT_ONCE else 1.0)


@pytest.fixture(scope="session")
def gevent_python(lab, tmp_path_factory) -> str:
    """The interpreter of a throw-away environment that has gevent."""
    python = tmp_path_factory.mktemp("gevent") / "venv" / "bin" / "python"
    env = clean_environment(lab.home)
    make = [lab.python, "-m", "venv", "--without-pip", python.parents[1]]
    subprocess.run(make, env=env, check=True, stdout=subprocess.DEVNULL)
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    done = subprocess.run(
        [*pip, "--only-binary=:all:", "gevent"],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode != 0:
        pytest.skip(f"gevent cannot be installed: {done.stderr.strip()[-200:]}")
    return str(python)


@serial
def test_gevent_is_as_under_stock(shielded, gevent_python):
    shielded.python = gevent_python
    args = ("-W", "ignore", PROGRAMS / "traps.py", "gevent_patched")
    got, delay = split_delay(shielded.run("pylaunch", *args))
    assert got == split_delay(shielded.run("stock", *args))[0]
    assert delay < 0.25


# ------------------------------------------------------------------------------------------ errors read the same

FILES = {
    "body.py": "def f():\n    return 1 / 0\n\n\nf()\n",
    "outer.py": "import inner\n",
    "inner.py": "from body import x\n",
    "syntax.py": "def f(:\n    pass\n",
    "circle_a.py": "from circle_b import x\n",
    "circle_b.py": "from circle_a import y\n",
    "dynamic.py": "import importlib\n\nimportlib.import_module('gone.away')\n",
    "pack/__init__.py": "",
    "pack/bad.py": "raise RuntimeError('bad')\n",
    "pack/uses.py": "from . import bad\n",
    "badpack/__init__.py": "import nothing_there\n",
    "badpack/sub.py": "x = 1\n",
    "vanish.py": "import sys\n\ndel sys.modules[__name__]\n",
    "again.py": "import builtins\n\nif hasattr(builtins, 'again'):\n    raise KeyError('again')\nbuiltins.again = 1\n",
    "deep.py": "import sys, importlib\nsys.setrecursionlimit(200)\nimportlib.import_module('deep1')\n",
    **{f"deep{i}.py": f"import deep{i + 1}\n" for i in range(1, 60)},
    "deep60.py": "",
}
FAILING = {
    "missing": "import no_such_module",
    "missing_in_package": "import pack.nothing",
    "not_a_package": "import body_free.sub\n",
    "from_missing": "from pack import nothing",
    "body": "import body",
    "chain": "import outer",
    "syntax": "import syntax",
    "circle": "import circle_a",
    "import_module": "import dynamic",
    "package_body": "import pack.uses",
    "parent": "import badpack.sub",
    "from_parent": "from badpack.sub import x",
    "vanish": "import vanish",
    "reload": "import again, importlib\nimportlib.reload(again)",
    "relative": "from . import x",
    "empty": "__import__('')",
    "halted": "import sys\nsys.modules['json'] = None\nimport json",
    "in_thread": "import threading\nt = threading.Thread(target=lambda: __import__('outer'), name='worker')\nt.start()\nt.join()",
    "lazy": "import importlib.util, sys\nspec = importlib.util.find_spec('body')\nspec.loader = importlib.util.LazyLoader(spec.loader)\n"
    "m = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(m)\nm.x",
    "lazy_missing": "import importlib.util, sys\nspec = importlib.util.find_spec('inner')\nspec.loader = importlib.util.LazyLoader(spec.loader)\n"
    "m = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(m)\nm.x",
    "loader_error": "import importlib.abc, sys\nclass F(importlib.abc.MetaPathFinder):\n    def find_spec(self, *a):\n        raise OSError('finder')\nsys.meta_path.insert(0, F())\nimport pack.zzz",
    "thread_start": "import _thread\n_thread.start_new_thread(1, 2)",
    "fork_argument": "import os\nos.fork(3)",
}


@pytest.mark.parametrize("name", FAILING)
def test_traceback_is_stocks(shielded, name):
    for file, text in FILES.items():
        (shielded.cwd / file).parent.mkdir(exist_ok=True)
        (shielded.cwd / file).write_text(text)
    (shielded.cwd / "main.py").write_text(FAILING[name] + "\n")
    stock = shielded.run("stock", "-B", "main.py")
    ours = shielded.run("pylaunch", "-B", "main.py")
    assert stock.err and ours == stock


def test_deep_chains_of_imports_still_work(shielded):
    for file, text in FILES.items():
        if file.startswith("deep"):
            (shielded.cwd / file).write_text(text.replace("200", "900"))
    (shielded.cwd / "main.py").write_text(
        "import deep\nimport sys\nprint('deep60' in sys.modules)\n"
    )
    assert shielded.run("pylaunch", "main.py") == shielded.run("stock", "main.py")
