"""Ours imports nothing by name where the program's files may bear that name."""

import json
import sys
import time
import zipfile

import pytest
from conftest import Runner, Tree
from imaged import RACY, restored

# What a program's folder may hold.
NAMES = set(sys.stdlib_module_names) - {"__main__", "antigravity", "this"}
NAMES |= {"numpy", "psutil", "pkg_resources", "typing_extensions", "importlib_metadata", "pylaunch"}
WAYS = {
    "script": ["prog.py"],
    "absolute": ["{here}/prog.py"],
    "fails": ["fails.py"],
    "-m": ["-m", "prog"],
    "-c": ["-c", "import prog"],
    "stdin": ["-"],
    "folder": ["{here}"],
    "zip": ["{here}/prog.zip"],
}
TRAP = """
import sys
SPRUNG = True
sys.__dict__.setdefault("sprung", []).append({name!r})
"""
# Tells what was imported before it, which names are the folder's, and what `__import__` is asked
# for until the end.
PROGRAM = """
import atexit, builtins, sys
before = list(sys.__dict__.setdefault("sprung", []))
asked, own, ended, real = [], [], [], builtins.__import__
def hook(name, *rest):
    if name != "_io": asked.append(name)  # By which CPython reads a source.
    if ended: sys.__stderr__.write("asked for " + name + " when the program had ended\\n")
    return real(name, *rest)
def end():
    told = {"before": before, "own": own, "sprung": sys.sprung, "asked": asked}
    print(repr(told).replace("'", '"'))
    ended.append(True)
atexit.register(end)
builtins.__import__ = hook
for name in NAMES:
    try: own += [name] * hasattr(__import__(name), "SPRUNG")
    except Exception as error: own.append(name + ": " + type(error).__name__)
"""
LOADED = "import atexit, sys\natexit.register(lambda: print(*sys.modules))\n"


def lay(tree: Tree, program: str, names=(), trap=TRAP) -> None:
    """A program among files that bear the `names`."""
    tree.write({f"{name}.py": trap.format(name=name) for name in names})
    tree.write({"prog.py": program, "__main__.py": program, "fails.py": program + "1 / 0\n"})
    with zipfile.ZipFile(tree / "prog.zip", "w") as file:
        for name in ["__main__", *names]:
            file.write(tree / f"{name}.py", f"{name}.py")
    tree.write(
        {"lib/lib.py": "import errno\nfrom os import environ\nenviron.get('PL_A')\nvalue = 1\n"}
    )


def start(run, tree: Tree, way: str, **kwargs):
    args = [x.format(here=tree) for x in WAYS[way]]
    data = (tree / "prog.py").read_text() if way == "stdin" else None
    env = {"PYTHONPATH": str(tree / "lib"), "PYTHONDONTWRITEBYTECODE": "1"}
    return run(*args, cwd=tree.root, input=data, env=env, **kwargs)


def assert_same(got, stock, how) -> None:
    assert (how, got.err, got.code) == (how, stock.err, stock.code)
    have, want = json.loads(got.out), json.loads(stock.out)
    for key in want:
        assert (how, key, sorted(set(have[key]) ^ set(want[key]))) == (how, key, [])
    assert (how, have) == (how, want)


@pytest.fixture
def ours(lab, tmp_path) -> Runner:
    lab.need_pylaunch()
    return Runner(lab, "cold", tmp_path, tmp_path)


@pytest.fixture
def traps(ours, tree, way) -> Tree:
    """All names but those that stock itself imports when it starts in this way."""
    lay(tree, LOADED)
    loaded = start(ours.stock, tree, way).out.split()
    names = sorted(NAMES - {name.partition(".")[0] for name in loaded})
    lay(tree, f"NAMES = {names!r}\n{PROGRAM}", names)
    return tree


HOW = {
    "plain": [],
    "preload": ["--preload", "import lib"],
    "preload_environment": ["--preload", "PL_A=1 import lib"],
    "preload_fails": ["--preload", "optional from lib import vlue"],
    "explain": ["--explain", "--preload", "import lib"],
    "record": ["--record", "record.txt"],
    "report": ["--report", "report.json", "--preload", "import lib"],
    "fast_exit": ["--exit", "fast", "--preload", "import lib"],
    "no_archive": ["--cache-mode", "off"],
}


@pytest.mark.slow  # 1.3 s each.
@pytest.mark.parametrize("way", WAYS)
def test_a_program_finds_its_own_files_and_none_was_imported_before(ours, traps, way):
    stock = start(ours.stock, traps, way)
    assert json.loads(stock.out)["before"] == [] and "wave" in json.loads(stock.out)["own"]
    for how, flags in HOW.items():
        got = start(ours.again, traps, way, flags=flags).without_pylaunch_lines()
        assert_same(got, stock, how)


@pytest.mark.parametrize("way", ["script", "-m", "-c", "folder"])
def test_a_program_finds_its_own_files_in_a_restored_process(ours, image, traps, way):
    time.sleep(RACY)
    image.python = ours.python
    expected = start(ours.stock, traps, way)
    env = {"PYTHONPATH": str(traps / "lib"), "PYTHONDONTWRITEBYTECODE": "1"}
    args = [x.format(here=traps) for x in WAYS[way]]
    for _ in range(2):
        got = image(*args, preload=["import lib"], env=env, cwd=traps.root)
        assert_same(got.without_pylaunch_lines(), expected, "image")
    assert restored(got), got.err


RAISES = "open({mark!r}, 'a').write({name!r} + chr(10))\nraise ImportError({name!r})\n"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", ["plain", "preload", "record", "no_archive"])
def test_where_stock_trips_over_such_a_file_ours_trips_over_no_other(ours, tree, way, how):
    mark = tree.root.parent / "mark"
    trap = RAISES.replace("{mark!r}", repr(str(mark)))
    lay(tree, "print('ran')\n", sorted(NAMES), trap)

    def sprung(run, **kwargs):
        mark.write_text("")
        result = start(run, tree, way, **kwargs)
        return result.without_pylaunch_lines(), mark.read_text()

    assert sprung(ours.again, flags=HOW[how]) == sprung(ours.stock)


FAILS = ["from lib import vlue", "lib:vlue", "import lib.none", "call lib:value", "import nothing"]


@pytest.mark.parametrize("entry", FAILS)
def test_who_explains_a_failure_springs_nothing(ours, tree, entry):
    mark = tree.root.parent / "mark"
    trap = RAISES.replace("{mark!r}", repr(str(mark)))
    lay(tree, "print('ran')\n", sorted(NAMES), trap)
    mark.write_text("")
    result = start(ours.again, tree, "script", flags=["--preload", entry])
    assert (result.code, result.out, mark.read_text()) == (1, "", "")
    assert "cause:" in result.err


def test_who_looks_for_the_python_springs_nothing(ours, tree):
    """From 3.13 on, CPython itself imports `linecache` for a command."""
    mark = tree.root.parent / "mark"
    mark.write_text("")
    lay(tree, "", sorted(NAMES), RAISES.replace("{mark!r}", repr(str(mark))))
    program = Tree(tree.root.parent / "elsewhere").write({"prog.py": "print('ran')\n"}) / "prog.py"
    env = {"XDG_CACHE_HOME": str(tree.root.parent / "unknown")}
    got = ours.again(program, cwd=tree.root, env=env, flags=["--explain"])
    assert (got.code, got.out, mark.read_text()) == (0, "ran\n", ""), got.err
