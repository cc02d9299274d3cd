# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""A program that sets a variable which preloading has read is told so, once, with the line that cures it; nobody else is."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Runner, Tree, clean_environment
from imaged import RACY, restored

READER = "import os\nVALUE = os.environ.get('PL_A')\n"


@pytest.fixture
def run(lab, tmp_path):
    lab.need_pylaunch()
    return Runner(lab, "off", tmp_path, tmp_path)


@pytest.fixture
def lib(tree) -> Tree:
    return tree.write({"reader.py": READER})


def launch(run, lib, program, *preload, file=None, env=None, flags=()):
    """Runs `program` (source text) as prog.py in the folder of the test, with `preload` from a preload file."""
    (run.cwd / "prog.py").write_text(program)
    (run.cwd / "list.txt").write_text("\n".join(preload) + "\n")
    env = {"PYTHONPATH": str(lib), **(env or {})}
    result = run("prog.py", env=env, flags=["--preload", file or "list.txt", *flags])
    assert result.code == 0, result.err
    return result


def told(
    name="PL_A", cure="PL_A=4", line=2, verb="sets", entry="import reader", where="list.txt:1"
):
    return (
        f"pylaunch: warning: prog.py:{line} {verb} {name}, which preloading '{entry}' ({where}) has already read;"
        f" {cure if verb == 'removes' else 'put this line into list.txt: ' + cure}\n"
    )


REMOVED = told(verb="removes", cure="start without it: env -u PL_A pylaunch ...")

# ---------------------------------------------------------------------------------------------- ways to set and to read

SETS = {
    "item": ("os.environ['PL_A'] = '4'", told()),
    "bytes_item": ("os.environb[b'PL_A'] = b'4'", told()),
    "setdefault": ("os.environ.setdefault('PL_A', '4')", told(cure="PL_A?=4")),
    "update": ("os.environ.update({'PL_X': '1', 'PL_A': '4'})", told()),
    "update_keyword": ("os.environ.update(PL_A='4')", told()),
    "or": ("os.environ |= {'PL_A': '4'}", told()),
    "putenv": ("os.putenv('PL_A', '4')", told()),
    "posix": ("import posix; posix.putenv(b'PL_A', b'4')", told()),
    "exec": ("exec('import os; os.environ[\"PL_A\"] = \"4\"')", told().replace("prog.py:2", "<string>:1")),
    "thread": ("import threading; t = threading.Thread(target=os.environ.__setitem__, args=('PL_A', '4')); t.start(); t.join()", ""),
    "thread_function": ("import threading\ndef f():\n    os.environ['PL_A'] = '4'\nt = threading.Thread(target=f); t.start(); t.join()", told(line=4)),
}  # fmt: skip


@pytest.mark.parametrize("how", SETS)
def test_program_that_sets_what_was_read_is_told_where(run, lib, how):
    statement, expected = SETS[how]
    result = launch(
        run, lib, f"import os\n{statement}\nimport reader\nprint(reader.VALUE)", "import reader"
    )
    assert result.out == "None\n"
    assert result.err == expected


REMOVALS = ["del os.environ['PL_A']", "os.environ.pop('PL_A')", "os.unsetenv('PL_A')"]


@pytest.mark.parametrize("statement", REMOVALS)
def test_removing_what_was_read_is_told(run, lib, statement):
    env = {"PL_A": "was"}
    assert launch(run, lib, f"import os\n{statement}", "import reader", env=env).err == REMOVED


READS = {
    "item": "import os\ntry: os.environ['PL_A']\nexcept KeyError: pass",
    "get": "import os\nos.environ.get('PL_A')",
    "getenv": "import os\nos.getenv('PL_A')",
    "getenvb": "import os\nos.getenvb(b'PL_A')",
    "bytes_item": "import os\nos.environb.get(b'PL_A')",
    "in": "import os\n'PL_A' in os.environ",
    "from": "from os import environ\nenviron.get('PL_A')",
    "bound": "from os import getenv as g, environ\nf = environ.get\nf('PL_A')",
    "pop": "import os\nos.environ.pop('PL_A', None)",
    "expandvars": "import os.path\nos.path.expandvars('$PL_A')",
    "c": "import ctypes\nctypes.CDLL(None).getenv(b'PL_A')",
    "c_secure": "import ctypes\nctypes.CDLL(None).secure_getenv(b'PL_A')",
    "thread": "import os, threading\nt = threading.Thread(target=os.getenv, args=('PL_A',)); t.start(); t.join()",
    "function": "import os\ndef f(): os.getenv('PL_A')",
}


@pytest.mark.parametrize("how", READS)
def test_every_way_to_read_is_noticed(run, lib, how):
    lib.write({"reads.py": READS[how]})
    entry = "call reads:f" if how == "function" else "import reads"
    env = {"PL_A": "was"} if how == "pop" else {}
    result = launch(run, lib, "import os\nos.environ['PL_A'] = '4'", entry, env=env)
    assert result.err == told(entry=entry)


NOT_READS = {
    "items": "import os\n[v for k, v in os.environ.items() if k.startswith('TQDM_')]",
    "values": "import os\nlist(os.environ.values())",
    "dict": "import os\ndict(os.environ), {**os.environ}, os.environ.copy(), os.environ | {}",
    "bytes_dict": "import os\ndict(os.environb)",
    "keys": "import os\nlist(os.environ), len(os.environ), repr(os.environ)",
    "set": "import os\nos.environ['PL_A'] = '9'",
    "putenv": "import os\nos.putenv('PL_A', '9'); os.unsetenv('PL_A')",
    "del": "import os\ndel os.environ['PL_A']",
    "spawn": "import subprocess\nsubprocess.run(['true'], env=None)\nsubprocess.run(['true'], env={**__import__('os').environ})",
    "other": "import os\nos.getenv('PL_AA'), os.getenv('PL_')",
}


@pytest.mark.parametrize("how", NOT_READS)
def test_going_through_the_environment_and_setting_it_is_no_read(run, lib, how):
    lib.write({"m.py": NOT_READS[how]})
    result = launch(
        run, lib, "import os\nos.environ['PL_A'] = '4'", "import m", env={"PL_A": "was"}
    )
    assert result.err == ""


# ---------------------------------------------------------------------------------------------- no false alarm

QUIET = {
    "same_value": "os.environ['PL_A'] = 'was'",
    "same_value_again": "os.environ['PL_A'] = os.environ['PL_A']",
    "default_of_what_is_set": "os.environ.setdefault('PL_A', '4')",
    "unread": "os.environ['PL_B'] = '4'",
    "fork": "pid = os.fork()\nif not pid: os.environ['PL_A'] = '4'; os._exit(0)\nos.waitpid(pid, 0)",
    "multiprocessing": "import multiprocessing as m\np = m.get_context('fork').Process(target=os.putenv, args=('PL_A', '4')); p.start(); p.join()",
    "child": "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import os, reader; os.environ[\"PL_A\"] = \"4\"'])",
    "environment_of_a_child": "import subprocess\nsubprocess.run(['true'], env={**os.environ, 'PL_A': '4'})",
    "patch_dict": "from unittest import mock\nwith mock.patch.dict(os.environ, PL_B='1'): pass",
    "clear": "os.environ.clear()",
    "copy": "env = os.environ.copy(); env['PL_A'] = '4'",
    "library": "import library; library.by_name(); library.by_default(); library.by_parts('PL_'); library.by_list(); library.inner()",
    "library_data": "import library; library.by_global(); library.by_module(); library.by_class(); library.Kind().by_self(); library.Kind.by_cls(); library.by_argument(); library.by_dict(); library.by_global_list()",
}  # fmt: skip
LIBRARY = """
import os
NAMES = ['PL_A']
def by_name(): os.environ['PL_A'] = '4'
def by_default(): os.environ.pop('PL_A'); os.environ.setdefault('PL_A', '5')
def by_parts(prefix): os.environ[prefix + 'LONG_NAME'] = '6'
def by_list():
    for name in ('PL_B', 'PL_A'): os.environ[name] = '7'
def put(name, value): os.environ[name] = value
def inner(): put('PL_A', '8')
NAME = 'PL_A'
DEFAULTS = {'PL_A': '9'}
class Kind:
    ENV = 'PL_A'
    def by_self(self): os.environ[self.ENV] = '4'
    @classmethod
    def by_cls(cls): os.putenv(cls.ENV, '5')
class Derived(Kind): pass
import names
def by_global(): os.environ[NAME] = '10'
def by_module(): os.environ[names.NAME] = '11'
def by_class(): os.environ[Derived.ENV] = '12'
def by_argument(name=NAME): put(name, '13')
def by_dict(): os.environ.update(DEFAULTS)
def by_global_list():
    for name in NAMES: os.environ[name] = '14'
"""
# Does what it is told.
SETTER = """
import os
SEEN = ['PL_A']
COPY = dict(os.environ)
def put(name, value): os.environ[name] = value
def load(values):
    for name, value in values.items(): put(name, value)
class Patch:
    def setenv(self, name, value): self.name = name; os.environ[name] = value
"""


@pytest.fixture
def packages(tree) -> Tree:
    """A folder of installed packages: one sets variables of its own, one does what it is told."""
    return Tree(tree / "site-packages").write(
        {
            "library.py": LIBRARY,
            "names.py": "NAME = 'PL_A'\n",
            "setter.py": SETTER,
            "reader.py": READER + "os.getenv('PL_LONG_NAME')\n",
        }
    )


@pytest.mark.parametrize("what", QUIET)
def test_no_alarm_without_a_change_of_the_programs_own(run, packages, what):
    program = f"import os\n{QUIET[what]}\n"
    assert launch(run, packages, program, "import reader", env={"PL_A": "was"}).err == ""


LEFT = {
    "clear_and_update": "old = os.environ.copy(); os.environ.clear(); os.environ.update(old)",
    "set": "os.environ['PL_A'] = 'mine'",
    "del_and_set": "del os.environ['PL_A']; os.environ['PL_A'] = 'mine'",
    "pop_and_default": "os.environ.setdefault('PL_A', os.environ.pop('PL_A'))",
    "unsetenv_and_putenv": "os.unsetenv('PL_A'); os.putenv('PL_A', 'mine')",
    "bytes": "os.environb[b'PL_A'] = b'mine'",
    "c": "import ctypes; c = ctypes.CDLL(None); c.unsetenv(b'PL_A'); os.environ['PL_A'] = 'mine'",
    "patch_dict": "from unittest import mock\nwith mock.patch.dict(os.environ, clear=True): pass",
    "read_again": "os.environ.pop('PL_A')",
}


@pytest.mark.parametrize("how", LEFT)
def test_the_value_that_preloading_left_is_no_change(run, lib, how):
    """A module that sets what was not set: torch does, and accelerate puts the environment back."""
    lib.write({"sets.py": READER + "os.environ['PL_A'] = VALUE or 'mine'\n"})
    program = f"import os\nassert os.environ['PL_A'] == 'mine'\n{LEFT[how]}\n"
    assert launch(run, lib, program, "import sets").err == ""
    program += "\nos.environ['PL_A'] = '4'\n"
    assert "sets PL_A" in launch(run, lib, program, "import sets").err


def test_in_a_restored_process_what_its_preloading_left_is_no_change(image, lib):
    lib.write({"sets.py": READER + "os.environ['PL_A'] = VALUE or 'mine'\n"})
    time.sleep(RACY)
    program = "import os\nold = os.environ.copy(); os.environ.clear(); os.environ.update(old)\n"
    program += "if 'PL_SET' in os.environ: os.environ['PL_A'] = '4'"
    env = {"PYTHONPATH": str(lib)}
    for _ in range(2):
        got = image("-c", program, preload=["import sets"], env=env)
        assert "sets PL_A" not in got.err
    assert restored(got)
    assert (
        "sets PL_A" in image("-c", program, preload=["import sets"], env=env | {"PL_SET": "1"}).err
    )


TOLD_BY_THE_PROGRAM = {
    "values": "setter.load({'PL_A': '4'})",
    "name": "setter.put('PL_A', '4')",
    "method": "setter.Patch().setenv('PL_A', '4')",
    "name_of_a_library": "import library; setter.put(library.NAME, '4')",
    "thread": "import threading; t = threading.Timer(0, lambda: setter.put('PL_A', '4')); t.start(); t.join()",
}


@pytest.mark.parametrize("how", TOLD_BY_THE_PROGRAM)
def test_library_that_sets_what_the_program_says_counts_as_the_program(run, packages, how):
    program = f"import os\nimport setter; {TOLD_BY_THE_PROGRAM[how]}\n"
    assert launch(run, packages, program, "import reader", env={"PL_A": "was"}).err == told()


def test_told_once_a_variable(run, lib):
    lib.write({"reader.py": READER + "os.getenv('PL_B')"})
    program = "import os\nfor i in range(3):\n    os.environ['PL_A'] = str(i)\n    os.environ['PL_B'] = str(i)\ndel os.environ['PL_A']"
    expected = told(line=3, cure="PL_A=0") + told("PL_B", line=4, cure="PL_B=0")
    assert launch(run, lib, program, "import reader").err == expected


def test_what_preloaded_code_sets_itself_is_not_told(run, lib):
    lib.write(
        {"other.py": "import os\nos.environ['PL_A'] = '9'\nos.environ.setdefault('PL_A', '8')\n"}
    )
    assert launch(run, lib, "", "import reader", "import other").err == ""


def test_environment_of_an_entry_is_what_its_reader_saw(run, lib):
    program = "import os\nos.environ['PL_A'] = '{}'\nimport reader\nprint(reader.VALUE)"
    assert launch(run, lib, program.format(4), "PL_A=4 import reader").err == ""
    result = launch(run, lib, program.format(5), "PL_A=4 import reader")
    assert (result.out, result.err) == ("4\n", told(cure="PL_A=5", entry="PL_A=4 import reader"))


def test_an_entrys_setting_alone_is_no_read(run, lib):
    lib.write({"m.py": ""})
    assert launch(run, lib, "import os\nos.environ['PL_A'] = '5'", "PL_A?=4 import m").err == ""


def test_without_preload_nothing_is_watched(run, lib):
    program = "import os, reader\nos.environ['PL_A'] = '4'"
    assert run("-c", program, env={"PYTHONPATH": str(lib)}).err == ""


def test_first_reader_is_named_and_explain_names_them_all(run, lib):
    lib.write({"second.py": READER})
    result = launch(
        run,
        lib,
        "import os\nos.environ['PL_A'] = '4'",
        "# first",
        "import reader",
        "second:VALUE",
        flags=["--explain"],
    )
    assert told(where="list.txt:2") in result.err
    readers = "list.txt:2:1 'import reader', list.txt:3:1 'second:VALUE'"
    assert f"pylaunch: explain: environment: PL_A was read by {readers}\n" in result.err
    assert re.search(r"explain: environment: preloading has read \d+ variables", result.err)


# ---------------------------------------------------------------------------------------------- the cure

VALUES = ["4", "", "a b", "it's", "it's so", '"', "=x", "#x", "a\tb", "grün", "a=b", "'"]


@pytest.mark.parametrize("value", VALUES)
def test_the_line_cures(run, lib, value):
    program = (
        f"import os\nos.environ['PL_A'] = {value!r}\nimport reader\nprint(ascii(reader.VALUE))"
    )
    result = launch(run, lib, program, "import reader")
    assert result.out == "None\n"
    line = result.err.removesuffix("\n").partition("put this line into list.txt: ")[2]
    cured = launch(run, lib, program, line, "import reader")
    assert (cured.out, cured.err) == (ascii(value) + "\n", "")


@pytest.mark.parametrize("value", ["two\nlines", "both ' and \" here"])
def test_what_the_file_cannot_say_is_said(run, lib, value):
    result = launch(run, lib, f"import os\nos.environ['PL_A'] = {value!r}", "import reader")
    assert result.err.endswith("has already read; set it in the shell, before the start\n")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("name", ["PL_TOKEN", "AWS_SECRET_ACCESS_KEY", "PASSWORD"])
def test_a_secret_is_not_repeated(run, lib, name):
    lib.write({"reader.py": f"import os\nos.getenv('{name}')"})
    result = launch(run, lib, f"import os\nos.environ['{name}'] = 'hunter2'", "import reader")
    assert f"sets {name}" in result.err and "hunter2" not in result.err


def test_an_inline_entry_has_no_file(run, lib):
    result = launch(run, lib, "import os\nos.environ['PL_A'] = '4'", file="import reader")
    assert result.err == (
        "pylaunch: warning: prog.py:2 sets PL_A, which preloading 'import reader' (--preload) has already read;"
        " preload this, too: PL_A=4\n"
    )


# ---------------------------------------------------------------------------------------------- nothing else changes

TRACES = """
import gc, json, os, sys
from os import environ
attributes = vars(os.environ)
print(json.dumps({
    "class": [type(x).__module__ + "." + type(x).__qualname__ for x in (os.environ, os.environb)],
    "data": [type(os.environ._data).__name__, os.environ._data is os.environb._data, os.environ._data is __import__("posix").environ],
    "attributes": {k: type(v).__name__ for k, v in attributes.items()},
    "bytes": {k: type(v).__name__ for k, v in vars(os.environb).items()},
    "names": [getattr(attributes[k], "__qualname__") for k in ("encodekey", "decodekey")],
    "cells": [environ.encodekey is environ.encodevalue, environ.decodekey is environ.decodevalue],
    "methods": sorted(vars(type(os.environ))),
    "getenv": [os.getenv.__module__, os.getenv.__code__.co_filename],
    "hooks": [type(x).__name__ for x in gc.get_objects() if getattr(x, "__name__", "") in ("encodekey", "decodekey")],
}))
"""  # fmt: skip


def test_os_environ_is_as_if_nothing_had_been_read(run, lib):
    lib.write(
        {
            "keeper.py": "import os\nfrom os import environ\nBEFORE = environ\nos.getenv('PL_A')\nlist(environ.items())\n"
        }
    )
    (run.cwd / "prog.py").write_text(TRACES + "import keeper\nassert keeper.BEFORE is os.environ\n")
    env = {"PYTHONPATH": str(lib)}
    stock = run.stock("prog.py", env=env)
    ours = run("prog.py", env=env, flags=["--preload", "import keeper"])
    assert ours.json == stock.json
    assert (ours.code, ours.err) == (0, "")


CALLS = """
import ctypes, errno, json
libc = ctypes.CDLL(None, use_errno=True)
for f in ("getenv", "secure_getenv"):
    getattr(libc, f).restype = ctypes.c_char_p
def call(name, *args):
    ctypes.set_errno(77)
    result = getattr(libc, name)(*args)
    return [result.decode() if isinstance(result, bytes) else result, ctypes.get_errno()]
keep = ctypes.create_string_buffer(b"PL_P=put")
print(json.dumps([
    call("getenv", b"PL_A"), call("secure_getenv", b"PL_A"), call("getenv", b"PL_NONE"), call("getenv", b""),
    call("setenv", b"PL_A", b"2", 0), call("getenv", b"PL_A"), call("setenv", b"PL_A", b"2", 1), call("getenv", b"PL_A"),
    call("setenv", b"", b"2", 1), call("setenv", b"A=B", b"2", 1), call("setenv", None, b"2", 1),
    call("unsetenv", b"A=B"), call("unsetenv", b""), call("unsetenv", b"PL_A"), call("unsetenv", b"PL_A"),
    call("putenv", keep), call("getenv", b"PL_P"), call("putenv", b"PL_P"), call("getenv", b"PL_P"),
]))
"""  # fmt: skip


@pytest.mark.parametrize("flags", [(), ("--preload", "import reader")], ids=["plain", "preload"])
def test_calls_of_libc_do_what_they_did(run, lib, flags):
    env = {"PYTHONPATH": str(lib), "PL_A": "1"}
    stock = run.stock("-c", CALLS, env=env)
    ours = run("-c", CALLS, env=env, flags=flags)
    assert ours.json == stock.json
    assert (ours.code, ours.err) == (0, "")


def test_threads_of_c_may_read_and_set_at_any_time(run, lib):
    """Neither has the GIL, nor a frame: through ctypes, which lets go of it."""
    hammer = (
        "import ctypes, threading\nlibc = ctypes.CDLL(None)\n"
        "def hammer(n):\n"
        "    for i in range(2000):\n        libc.getenv(b'PL_%d' % (i % 50))\n"
        "def run():\n"
        "    threads = [threading.Thread(target=hammer, args=(n,)) for n in range(4)]\n"
        "    for t in threads: t.start()\n    for t in threads: t.join()\n"
    )
    lib.write({"hammer.py": hammer})
    program = "import hammer, os\nhammer.libc.setenv(b'PL_1', b'x', 1)\nhammer.run()\nos.environ['PL_2'] = 'y'"
    result = launch(run, lib, program, "call hammer:run")
    assert result.err == told("PL_2", cure="PL_2=y", line=4, entry="call hammer:run")


# ---------------------------------------------------------------------------------------------- real packages


def need(run, *packages):
    python = os.environ.get("PYLAUNCH_TEST_PYTHON") or sys.executable
    probe = f"import importlib.util as u, sys; sys.exit(any(u.find_spec(p) is None for p in {packages!r}))"
    env = clean_environment(run.lab.home)
    if subprocess.run([python, "-c", probe], env=env).returncode:
        pytest.skip(f"{python} lacks one of {', '.join(packages)}")
    run.python = Path(python)


# (entry, setter, what the library made of it at import)
REAL = {
    "omp": ("import torch", "OMP_NUM_THREADS", "1", "import torch; print(torch.get_num_threads())"),
    "mkl": ("import torch", "MKL_NUM_THREADS", "1", "import torch; print(torch.get_num_threads())"),
    "hf_home": ("import transformers.utils.hub", "HF_HOME", "/nowhere", "from huggingface_hub import constants as c; print(c.HF_HOME)"),
    "openblas": ("import numpy", "OPENBLAS_NUM_THREADS", "1", "print(1)"),
}  # fmt: skip


@pytest.mark.slow  # 4 s each.
@pytest.mark.parametrize("case", REAL)
def test_real_packages_have_read_it_and_the_cure_cures(run, lib, case):
    entry, name, value, use = REAL[case]
    need(run, entry.split()[1].split(".")[0])
    program = f"import os\nos.environ['{name}'] = '{value}'\n{use}"
    late = launch(run, lib, program, entry)
    assert late.err == told(name, cure=f"{name}={value}", entry=entry)
    cured = launch(run, lib, program, f"{name}={value}", entry)
    assert cured.err == ""
    # What the program would have had without preloading.
    assert cured.out == run.stock("prog.py", env={"PYTHONPATH": str(lib)}).out


def test_cuda_visible_devices_is_told_only_where_it_was_read(run, lib):
    """torch looks at it when CUDA is first asked for, not when it is imported."""
    need(run, "torch")
    lib.write({"asks.py": "import torch\ntorch.cuda._parse_visible_devices()\n"})
    program = "import os\nos.environ['CUDA_VISIBLE_DEVICES'] = '1'"
    assert launch(run, lib, program, "import torch").err == ""
    expected = told("CUDA_VISIBLE_DEVICES", cure="CUDA_VISIBLE_DEVICES=1", entry="import asks")
    assert launch(run, lib, program, "import asks").err == expected


PROGRAMS = {
    "loader": (
        "torch",
        "import torch\n"
        "class D(torch.utils.data.Dataset):\n"
        "    def __len__(self): return 4\n"
        "    def __getitem__(self, i): return torch.get_num_threads()\n"
        "if __name__ == '__main__':\n"
        "    print(sum(len(x) for x in torch.utils.data.DataLoader(D(), num_workers=2)))\n",
    ),
    "joblib": (
        "joblib",
        "import joblib, os\n"
        "if __name__ == '__main__':\n"
        "    print(joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(-i) for i in range(4)))\n",
    ),
    "sklearn": (
        "sklearn",
        "from sklearn.datasets import load_digits\nfrom sklearn.ensemble import RandomForestClassifier\n"
        "from sklearn.model_selection import cross_val_score\n"
        "if __name__ == '__main__':\n"
        "    X, y = load_digits(return_X_y=True)\n"
        "    print(len(cross_val_score(RandomForestClassifier(5), X, y, n_jobs=2, cv=2)))\n",
    ),
    "optuna": (
        "optuna",
        "import optuna\noptuna.logging.set_verbosity(optuna.logging.WARNING)\n"
        "s = optuna.create_study(); s.optimize(lambda t: t.suggest_float('x', 0, 1), n_trials=4, n_jobs=2)\n"
        "print(len(s.trials))\n",
    ),
    "tokenizers": (
        "transformers",
        "import os\nos.environ['TOKENIZERS_PARALLELISM'] = 'false'\n"
        "from transformers import BertConfig, BertModel\n"
        "print(BertModel(BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)).num_parameters())\n",
    ),
}  # fmt: skip


@pytest.mark.slow  # 3 s each.
@pytest.mark.parametrize("name", PROGRAMS)
def test_what_libraries_do_in_the_normal_course_is_not_told(run, lib, name):
    package, program = PROGRAMS[name]
    need(run, package)
    entry = (
        "from transformers import BertConfig, BertModel"
        if package == "transformers"
        else f"import {package}"
    )
    result = launch(run, lib, program, entry)
    assert "pylaunch:" not in result.err


def test_a_run_of_pytest_is_not_told(run, lib):
    need(run, "pytest")
    lib.write(
        {
            "test_x.py": "import os, reader\ndef test_x(monkeypatch):\n    assert 'PYTEST_CURRENT_TEST' in os.environ\n"
        }
    )
    flags = ["--preload", "import pytest", "--preload", "import reader"]
    result = run(
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"{lib}/test_x.py",
        env={"PYTHONPATH": str(lib)},
        flags=flags,
    )
    assert (result.code, result.err) == (0, "")
