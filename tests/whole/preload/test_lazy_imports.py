# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""Explicit lazy imports (PEP 810, from CPython 3.15 on): what preloading leaves pending, and what threads do with what is."""

import json

import pytest

FILES = {
    "top.py": "lazy import part\nlazy from other import value\nlazy import missing_one\nprint('top')\n",
    "part.py": "lazy import deep\nprint('part')\n",
    "other.py": "print('other')\nvalue = 1\n",
    "deep.py": "print('deep')\n",
}
PENDING = (
    "import sys, types\n"
    "lazy_names = lambda m: sorted(k for k, v in vars(sys.modules[m]).items() if type(v) is types.LazyImportType)\n"
    "print(lazy_names('top'), sorted({'part', 'other', 'deep'} & set(sys.modules)))\n"
)


@pytest.fixture(autouse=True)
def new_enough(lab):
    if lab.version < (3, 15):
        pytest.skip("new in 3.15")


@pytest.mark.every_python
def test_preloading_a_module_resolves_what_it_left_pending(ours, tree):
    env = {"PYTHONPATH": str(tree.write(FILES))}
    result = ours("-c", PENDING, env=env, flags=["--preload=top"])
    assert (result.code, result.err) == (0, "")
    assert sorted(result.out.splitlines()[:-1]) == ["deep", "other", "part", "top"]
    assert result.out.splitlines()[-1] == "['missing_one'] ['deep', 'other', 'part']"


def test_module_that_was_there_is_resolved_too(ours, tree):
    env = {"PYTHONPATH": str(tree.write(FILES))}
    result = ours(
        "-c", PENDING, env=env, flags=["--preload=lazy import top", "--preload=import top"]
    )
    assert result.out.splitlines()[-1] == "['missing_one'] ['deep', 'other', 'part']"


def test_lazy_entry_leaves_them(ours, tree):
    env = {"PYTHONPATH": str(tree.write(FILES))}
    result = ours("-c", PENDING, env=env, flags=["--preload=lazy import top"])
    assert result.out == "top\n['missing_one', 'part', 'value'] []\n"


def test_pending_import_that_fails_fails_where_it_is_looked_at(ours, tree):
    env = {"PYTHONPATH": str(tree.write(FILES))}
    program = "import top\ntry: top.missing_one\nexcept ImportError as e: print(e.name, type(e.__cause__).__name__)"
    result = ours("-c", program, env=env, flags=["--preload=top"])
    assert result.out.splitlines()[-1] == "missing_one ImportError", result


def test_preloading_is_eager_where_all_imports_are_lazy(ours, tree):
    env = {"PYTHONPATH": str(tree.write({"plain.py": "import colorsys\n"}))}
    program = "import sys; print({'plain', 'colorsys'} <= set(sys.modules))"
    result = ours("-X", "lazy_imports=all", "-c", program, env=env, flags=["--preload=plain"])
    assert (result.out, result.err) == ("True\n", "")


@pytest.mark.every_python
def test_report_and_record_tell_what_was_looked_at(ours, tree, tmp_path):
    """A name that stays pending is no import; one that is looked at is one, then and there."""
    env = {"PYTHONPATH": str(tree.write(FILES))}
    (tmp_path / "here").mkdir()
    program = tmp_path / "here/program.py"
    program.write_text(
        "lazy import top\nimport wave\nlazy import other\nlazy import sched\ntop.part.deep\n"
    )
    report, record = tmp_path / "report.json", tmp_path / "record.txt"
    done = ours(program, env=env, flags=[f"--report={report}", f"--record={record}"])
    assert (done.code, done.err) == (0, "")
    modules = json.loads(report.read_text())["modules"]
    told = {module["name"]: module["lazy"] for module in modules}
    assert [told.get(x) for x in ("top", "part", "deep", "wave", "other", "sched")] == [
        True,
        True,
        True,
        False,
        None,
        None,
    ]
    lines = [x for x in record.read_text().splitlines() if not x.startswith("#")]
    assert {"top", "wave"} <= {name for x in lines for name in x.replace(",", " ").split()}
    assert not [x for x in lines if "sched" in x or "other" in x]


RACE = """
import sys, threading
lazy import slow
gate = threading.Barrier(8)
seen = []
def look():
    gate.wait()
    try: seen.append(slow.late)
    except BaseException as e: seen.append(repr(e))
threads = [threading.Thread(target=look) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print(seen)
"""


@pytest.mark.every_python
def test_threads_that_look_at_one_lazy_name_at_once_get_the_whole_module(run, tree):
    tree.write({"slow.py": "import time\ntime.sleep(0.3)\nlate = 1\n", "race.py": RACE})
    assert run.same(tree / "race.py", tree=tree).out == f"{[1] * 8}\n"


CIRCLE = """
import threading
gate = threading.Barrier(2)
def look(name):
    gate.wait()
    try: print(name, __import__(name).get())
    except BaseException as e: print(name, repr(e))
threads = [threading.Thread(target=look, args=(n,)) for n in ('a', 'b')]
for t in threads: t.start()
for t in threads: t.join()
"""


def test_lazy_circle_across_threads_is_whole(ours, tree):
    """Stock: AttributeError, 'partially initialized' (cause B in docs/import-races.md), now and then."""
    body = "import time\nlazy import {0}\ntime.sleep(0.1)\n{0}\ntime.sleep(0.1)\nx = 1\ndef get(): return {0}.x\n"
    tree.write({"a.py": body.format("b"), "b.py": body.format("a"), "circle.py": CIRCLE})
    for _ in range(3):
        result = ours(tree / "circle.py")
        assert sorted(result.out.splitlines()) == ["a 1", "b 1"], result


SWITCHES = """
import sys, types
lazy import colorsys
print(type(globals()['colorsys']).__name__, 'colorsys' in sys.modules, sys.get_lazy_imports(), sys.flags.lazy_imports)
import wave
print(type(globals()['wave']).__name__, 'wave' in sys.modules, sorted(sys.lazy_modules)[:3], colorsys.rgb_to_hsv(0, 0, 0))
print(type(globals()['colorsys']).__name__)
"""


@pytest.mark.parametrize("mode", ["normal", "all"])
def test_switches_mean_what_they_mean_to_stock(run, tree, mode):
    tree.write({"p.py": SWITCHES})
    run.same("-X", f"lazy_imports={mode}", tree / "p.py", tree=tree)
    run.same(tree / "p.py", tree=tree, env={"PYTHON_LAZY_IMPORTS": mode})


def test_filter_is_asked_as_by_stock(run, tree):
    program = (
        "import sys\n"
        "asked = []\n"
        "def keep(importer, name, names): asked.append((importer, name, names)); return name != 'wave'\n"
        "sys.set_lazy_imports_filter(keep)\n"
        "exec(compile('lazy import wave, colorsys', 'f', 'exec'))\n"
        "print(asked, 'wave' in sys.modules, 'colorsys' in sys.modules)\n"
    )
    run.same(tree.write({"p.py": program}) / "p.py", tree=tree)


AUDIT = """
import sys
seen = []
sys.addaudithook(lambda event, args: seen.append(args[0]) if event == 'import' else None)
import importlib
importlib.import_module('colorsys'); importlib.import_module('colorsys'); import wave, wave
try: import nowhere_at_all
except ImportError: pass
lazy import sched
print([x for x in seen if x in ('colorsys', 'wave', 'nowhere_at_all', 'sched')])
sched.scheduler
print('sched' in seen)
"""


@pytest.mark.every_python
def test_audit_hooks_see_each_import_as_under_stock(run, tree):
    run.same(tree.write({"p.py": AUDIT}) / "p.py", tree=tree)


def test_discover_lists_what_stock_lists(run, tree):
    program = (
        "import sys\n"
        "for finder in sys.meta_path:\n"
        "    found = getattr(finder, 'discover', lambda: ())()\n"
        "    print(getattr(finder, '__name__', type(finder).__name__) if 'Archive' not in type(finder).__name__ else '',"
        " sorted({spec.name for spec in found if spec.name.startswith('only_here')}))\n"
    )
    tree.write({"only_here.py": "", "only_here_too/__init__.py": "", "p.py": program})
    lines = run(tree / "p.py").out.splitlines()
    assert "PathFinder ['only_here', 'only_here_too']" in lines
