# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""--preload loads what it names before the program's first line, or stops the launch and says why."""

import json
import os
import re
import shlex
import zipfile
from pathlib import Path

import pytest
from conftest import Tree

SHOW = "import sys; print(sorted(n for n in ('wave', 'csv', 'colorsys', 'm', 'n', 'p', 'p.s') if n in sys.modules))"


@pytest.fixture(params=["off", "cold", "warm"])
def run(request, lab, tmp_path, warm_cache):
    """Stock has no --preload, so three modes; stock serves to compare with."""
    from conftest import Runner

    lab.need_pylaunch()
    return Runner(lab, request.param, tmp_path, warm_cache)


@pytest.fixture
def lib(tree) -> Tree:
    return tree.write(
        {
            "m.py": "X = 'm'\n\n\nclass C:\n    pass\n\n\ndef f():\n    print('f called', flush=True)\n",
            "n.py": "X = 'n'\n",
            "p/__init__.py": "X = 'p'\n",
            "p/s.py": "X = 's'\n\n\ndef load():\n    import p\n    p.warm = ['built']\n",
            "noisy.py": "print('noisy was here', flush=True)\n",
            "raises.py": "import n\nraise ValueError('no such luck')\n",
            "inner.py": "import absent_backend\n",
            "broken.py": "x = 1\ndef f(:\n    pass\n",
            "dummy.py": (
                "class DummyObject(type):\n"
                "    def __getattribute__(cls, key):\n"
                "        if key.startswith('_') and key != '_from_config':\n"
                "            return super().__getattribute__(key)\n"
                "        raise ImportError(f'{cls.__name__} requires tensorflow')\n"
                "class TFModel(metaclass=DummyObject):\n    _backends = ['tensorflow', 'keras']\n"
                "class Real:\n    _backends = ['tensorflow']\n"
            ),
            "env_reader.py": (
                "import os, ctypes\n"
                "libc = ctypes.CDLL(None); libc.getenv.restype = ctypes.c_char_p\n"
                "seen = {n: (os.environ.get(n), (libc.getenv(n.encode()) or b'-').decode()) for n in"
                " ('PL_A', 'PL_B', 'PL_C')}\n"
            ),
            "env_other.py": "from os import environ\nseen = {n: environ.get(n) for n in ('PL_A', 'PL_B', 'PL_C')}\n",
            "where.py": (
                "import sys\npath = list(sys.path)\nargv = list(sys.argv)\nname = __name__\n"
                "main = sorted(k for k in vars(sys.modules['__main__']))\n"
                "file = getattr(sys.modules['__main__'], '__file__', None)\n"
            ),
            "exits.py": "import sys\nsys.exit(7)\n",
            "lazy.py": "def __dir__(): return ['READY']\ndef __getattr__(name):\n    if name == 'READY': return 1\n    raise AttributeError(name)\n",
            "interrupts.py": "raise KeyboardInterrupt\n",
            "pather.py": "import sys\nsys.path.append('/added/by/pather')\nsys.path.insert(1, '/second')\n",
            "threader.py": (
                "import threading, time\nevent = threading.Event()\n"
                "thread = threading.Thread(target=event.wait, name='left behind', daemon=True)\nthread.start()\n"
            ),
            "second_time.py": (
                "import os, sys\nmark = os.environ['PL_MARK']\nimport half\n"
                "if not os.path.exists(mark):\n    open(mark, 'w').close()\n    raise RuntimeError('only the first time')\n"
            ),
            "half.py": "X = 1\n",
            "collect.py": (
                "import gc\nstate = (gc.isenabled(), gc.get_threshold())\n"
                "class Node: pass\n"
                "keep = [[i] for i in range(5000)]\n"
                "node = Node(); node.node = node; del node\n"
            ),
        }
    )


@pytest.fixture
def env(lib):
    return {"PYTHONPATH": str(lib)}


def preload(*texts):
    return [x for text in texts for x in ("--preload", str(text))]


def fine(result):
    assert result.code == 0, result.err
    assert result.err == ""
    return result


# ---------------------------------------------------------------------------------------------- what is loaded


@pytest.mark.parametrize(
    "text, expected",
    [
        ("import wave", ["wave"]),
        ("wave", ["wave"]),
        ("import wave, csv", ["csv", "wave"]),
        ("from wave import open", ["wave"]),
        ("from wave import open, Error", ["wave"]),
        ("from p import s", ["p", "p.s"]),
        ("p.s:X", ["p", "p.s"]),
        ("import p.s", ["p", "p.s"]),
        ("import wave as w, csv as c", ["csv", "wave"]),
        ("from p import (s as t, )", ["p", "p.s"]),
        ("wave:open,Error", ["wave"]),
        ("optional wave", ["wave"]),
        ("optional from wave import open", ["wave"]),
        ("PL_A=1 import wave", ["wave"]),
        ("PL_A=1", []),
        ("import wave  # comment", ["wave"]),
        ("  import wave  ", ["wave"]),
        (" ", []),
        ("# only a comment", []),
    ],
)
def test_inline_entry_is_loaded_before_the_program(run, env, text, expected):
    assert fine(run("-c", SHOW, env=env, flags=preload(text))).out == f"{expected}\n"


@pytest.mark.parametrize(
    "spelling", ["@{0}/list", "{0}/list", "{0}/list.txt", "list.txt", "@list", "./list"]
)
def test_file_of_entries(run, env, lib, tmp_path, spelling):
    text = "\ufeff# what we need\n\nimport m\r\nfrom p import s   # and this\nPL_A=grün\ncsv\n"
    for name in ("list", "list.txt"):
        (tmp_path / name).write_text(text, newline="")
    flags = preload(spelling.format(tmp_path))
    program = SHOW + "; import os; print(os.environ['PL_A'])"
    out = fine(run("-c", program, env=env, flags=flags, cwd=tmp_path)).out
    assert out == "['csv', 'm', 'p', 'p.s']\ngrün\n"


def test_files_and_entries_mixed_run_in_order(run, env, lib, tmp_path):
    (tmp_path / "one.txt").write_text("import noisy\n")
    lib.write({"a1.py": "print('a1', flush=True)\n", "a2.py": "print('a2', flush=True)\n"})
    variable = {
        **env,
        "PYLAUNCH_PRELOAD": f"import a1\n@{tmp_path}/one.txt\n\n# note\noptional nothing_here\n",
    }
    flags = preload("import a2", "call m:f", tmp_path / "one.txt")
    result = fine(run("-c", "print('program')", env=variable, flags=flags))
    assert result.out == "a1\nnoisy was here\na2\nf called\nprogram\n"


def test_equals_sign_form(run, env):
    assert fine(run("-c", SHOW, env=env, flags=["--preload=import wave"])).out == "['wave']\n"


def test_call_keeps_what_it_builds(run, env):
    program = "import p; print(p.warm)"
    assert fine(run("-c", program, env=env, flags=preload("call p.s:load"))).out == "['built']\n"


def test_program_gets_the_same_objects(run, env):
    """One module object, one class: what preload loaded is what the program imports."""
    program = (
        "import sys\nbefore = {n: id(sys.modules[n]) for n in ('m', 'p', 'p.s')}\n"
        "import m, p.s\nprint(before == {n: id(sys.modules[n]) for n in before}, m.C is sys.modules['m'].C, p.s is sys.modules['p.s'])\n"
        "print(sorted(n for n in dir() if not n.startswith('__')), sys.modules['m'].__spec__.name, m.__loader__.path)\n"
    )
    stock = run.stock("-c", program.replace("\nbefore", "; import m, p.s\nbefore", 1), env=env)
    result = fine(run("-c", program, env=env, flags=preload("import m", "from p import s")))
    assert result.out == stock.out
    assert result.out.startswith("True True True")


def test_nothing_leaks_into_main(run, env):
    program = "print(sorted(globals()))"
    expected = run.stock("-c", program).out
    assert (
        fine(run("-c", program, env=env, flags=preload("from m import f, C", "call m:f"))).out
        == "f called\n" + expected
    )


def test_preloaded_modules_look_like_imported_ones(run, env):
    program = (
        "import sys, re\n"
        "import m, p, p.s\n"
        "for x in (m, p, p.s): print(re.sub('0x[0-9a-f]+', '', repr((x, x.__spec__, x.__file__, x.__spec__.cached, sorted(vars(x))))))"
    )
    expected = run.stock("-c", program, env=env)
    assert (
        fine(run("-c", program, env=env, flags=preload("import p.s", "import m"))).out
        == expected.out
    )


def test_modules_that_print_print_first(run, env):
    out = fine(run("-c", "print('program')", env=env, flags=preload("import noisy"))).out
    assert out == "noisy was here\nprogram\n"


def test_buffered_output_of_preload_keeps_its_order(run, env, lib):
    lib.write({"buffered.py": "print('from preload')\n"})
    out = fine(run("-c", "print('program')", env=env, flags=preload("import buffered"))).out
    assert out == "from preload\nprogram\n"


# ---------------------------------------------------------------------------------------------- failures


def stopped(result, code=1):
    assert result.code == code, (result.out, result.err)
    assert "program" not in result.out
    assert result.err.startswith("pylaunch: error: "), result.err
    return result.err


PROGRAM = "print('program')"


@pytest.mark.parametrize(
    "text, column, words",
    [
        ("import no_such_thing_at_all", 1, ["no_such_thing_at_all", "ModuleNotFoundError"]),
        ("import p.nothing", 1, ["p.nothing"]),
        ("from p import nothing", 1, ["nothing"]),
        ("p:nothing", 1, ["nothing"]),
        ("from m import Cc", 1, ["did you mean", "'C'"]),
        ("import raises", 1, ["ValueError", "no such luck", "raises.py:2"]),
        ("import m.X", 1, ["write m:X,"]),
        ("from m.X import y", 1, ["write m:X,"]),
        ("lazy.READY", 1, ["'READY' is a name in 'lazy'", "write lazy:READY,"]),
        ("wave:open,nothing", 1, ["nothing"]),
        ("import inner", 1, ["absent_backend"]),
        ("import broken", 1, ["SyntaxError", "broken.py"]),
        ("  import raises", 3, ["ValueError"]),
        ("PL_A=1 import raises", 8, ["ValueError"]),
        ("call raises:f", 1, ["ValueError"]),
        ("call m:nothing", 1, ["nothing"]),
        ("call m:X", 1, ["not callable"]),
        ("from dummy import TFModel", 1, ["TFModel", "placeholder", "tensorflow"]),
        ("dummy:TFModel", 1, ["tensorflow", "keras"]),
        ("import exits", 1, ["SystemExit"]),
    ],
)
def test_failing_entry_stops_the_launch(run, env, text, column, words):
    err = stopped(run("-c", PROGRAM, env=env, flags=preload("import wave", text)))
    first = err.splitlines()[0]
    assert re.match(rf"pylaunch: error: --preload:1:{column}: ", first), first
    assert "did not load" in first and text.strip().split(" ", column > 3)[-1] in first
    assert re.search(r"^  cause: \S", err, re.M)
    assert re.search(r"^  hint:  \S", err, re.M)
    for word in words:
        assert word in err


def test_failing_entry_in_a_file_names_its_place(run, env, tmp_path):
    path = tmp_path / "configs.txt"
    path.write_text("# configurations\nimport m\n\n    from p import nothing  # here\nimport n\n")
    err = stopped(run("-c", PROGRAM, env=env, flags=preload(path)))
    assert re.match(rf"pylaunch: error: {re.escape(str(path))}:4:5: ", err), err
    assert "'from p import nothing'" in err


def test_failing_variable_names_the_variable(run, env):
    err = stopped(
        run("-c", PROGRAM, env={**env, "PYLAUNCH_PRELOAD": "import wave\nimport nothing_here"})
    )
    assert "PYLAUNCH_PRELOAD:" in err.splitlines()[0] and "nothing_here" in err


@pytest.mark.parametrize(
    "args", [["-c", PROGRAM], ["-m", "noisy"], ["-"], ["script.py"], ["-i", "-c", PROGRAM]], ids=" ".join
)  # fmt: skip
def test_failure_stops_every_kind_of_program(run, env, lib, args):
    lib.write({"script.py": PROGRAM})
    result = run(*args, env=env, input=PROGRAM, cwd=lib.root, flags=preload("import raises"))
    assert stopped(result) and "noisy" not in result.out


def test_later_entries_are_not_tried(run, env):
    assert (
        "noisy"
        not in run("-c", PROGRAM, env=env, flags=preload("import raises", "import noisy")).out
    )


def test_atexit_of_preloaded_modules_runs_when_the_launch_stops(run, env, lib):
    lib.write({"hooks.py": "import atexit\natexit.register(print, 'cleaned up')\n"})
    result = run("-c", PROGRAM, env=env, flags=preload("import hooks", "import raises"))
    assert (result.code, result.out) == (1, "cleaned up\n")


@pytest.mark.parametrize("text", ["optional no_such_thing", "optional import p.nothing", "optional from p import nothing", "optional from dummy import TFModel"])  # fmt: skip
def test_missing_optional_entry_is_silent(run, env, text):
    assert fine(run("-c", PROGRAM, env=env, flags=preload(text))).out == "program\n"


@pytest.mark.parametrize(
    "text, word",
    [("optional raises", "no such luck"), ("optional broken", "SyntaxError"), ("optional inner", "absent_backend"), ("optional call raises:f", "no such luck")],
)  # fmt: skip
def test_broken_optional_entry_is_a_warning(run, env, text, word):
    result = run("-c", PROGRAM, env=env, flags=preload(text))
    assert (result.code, result.out) == (0, "program\n")
    assert len(result.warnings()) == 1 and result.err.count("\n") == 1
    assert word in result.err and "--preload:1:1" in result.err
    # The line that it names says what a required entry's failure would have said.
    command = shlex.split(result.err.partition("examine it: pylaunch ")[2])
    told = run(env=env, flags=command)
    assert re.search(r" [1-9] warnings", told.out) and word in told.out, told


def test_the_doctor_says_how_to_write_what_is_no_module(run, env):
    if run.mode == "stock":
        return
    told = run(env=env, flags=["--doctor", *preload("import lazy.READY")])
    assert "hint:  write lazy:READY" in told.out, told
    assert fine(run("-c", PROGRAM, env=env, flags=preload("lazy:READY"))).out == "program\n"


def test_real_class_with_backends_is_no_placeholder(run, env):
    fine(run("-c", PROGRAM, env=env, flags=preload("from dummy import Real")))


def test_failed_entry_leaves_no_half_module(run, env):
    program = "import sys; print('raises' in sys.modules, 'n' in sys.modules)"
    result = run("-c", program, env=env, flags=preload("optional raises"))
    expected = run.stock("-c", "\ntry: import raises\nexcept ValueError: pass\n" + program, env=env)
    assert result.out == expected.out


def test_entry_that_fails_once_is_tried_again(run, env, tmp_path):
    mark = tmp_path / "mark"
    env = {**env, "PL_MARK": str(mark)}
    for _ in range(2 if run.mode == "warm" else 1):
        mark.unlink(missing_ok=True)
        result = run.again("-c", PROGRAM, env=env, flags=preload("import second_time"))
    assert (result.code, result.out) == (0, "program\n")
    assert "second_time" in result.err


def test_second_try_loads_the_submodules_of_a_failed_package_again(run, env, lib, tmp_path):
    lib.write(
        {
            "pkg/__init__.py": "import builtins, csv\nfrom . import sub\nif not hasattr(builtins, 'PL_TRIED'):\n    builtins.PL_TRIED = csv\n    raise RuntimeError('once')\n",
            "pkg/sub.py": "print('sub runs')\n",
        }
    )
    program = "import sys, csv, builtins, pkg; print(pkg.sub is sys.modules['pkg.sub'], builtins.PL_TRIED is csv)"
    result = run("-c", program, env=env, flags=preload("import pkg"))
    assert result.out == "sub runs\nsub runs\nTrue True\n"
    assert "second try" in result.err and "once" in result.err


def test_both_failures_are_told(run, env, lib):
    lib.write(
        {
            "twice.py": "import builtins\nbuiltins.PL_N = n = getattr(builtins, 'PL_N', 0) + 1\nraise RuntimeError(f'try {n}')\n"
        }
    )
    result = run("-c", PROGRAM, env=env, flags=preload("import twice"))
    assert (result.code, result.out) == (1, "")
    assert "try 1" in result.err and "try 2" in result.err


def test_no_second_try_after_an_extension_module_was_loaded(run, env, lib):
    native = Path(run.stock("-c", "import _queue; print(_queue.__file__)").out.strip())
    lib.write(
        {
            "pkg/__init__.py": "print('body', flush=True)\nfrom . import _queue\nraise RuntimeError('late')\n",
            f"pkg/{native.name}": native.read_bytes(),
        }
    )
    result = run("-c", PROGRAM, env=env, flags=preload("import pkg"))
    assert (result.code, result.out) == (1, "body\n")
    assert "late" in result.err and "twice" not in result.err and "second try" not in result.err


def test_interrupt_while_preloading(run, env):
    result = run("-c", PROGRAM, env=env, flags=preload("import interrupts"))
    assert result.code in (-2, 130) and result.out == ""


def test_os_exit_while_preloading(run, env, lib):
    lib.write({"hard.py": "import os; os._exit(9)\n"})
    assert run("-c", PROGRAM, env=env, flags=preload("import hard")).code == 9


# ---------------------------------------------------------------------------------------------- usage errors

BAD_LINES = [
    ("from transformers imprt AutoConfig", 19),
    ("import", 7),
    ("import 9lives", 8),
    ("import a..b", 8),
    ("from a import", 14),
    ("from a import b,", 16),
    ("call a.b", 6),
    ("call", 5),
    ("a:b:c", 1),
    ("optional", 9),
    ("import a as", 12),
    ("from a import b as", 19),
    ("import ../x y", 8),
    ("=x import a", 1),
    ("from . import a", 6),
]


@pytest.mark.parametrize("line, column", BAD_LINES)
def test_syntax_error_shows_the_line(ours, tmp_path, line, column):
    path = tmp_path / "list.txt"
    path.write_text(f"# first\nimport wave\n{line}\n")
    err = stopped(ours.again("-c", PROGRAM, flags=preload(path)), code=2)
    match = re.match(rf"pylaunch: error: {re.escape(str(path))}:3:(\d+): ", err)
    assert match, err
    # The column is where a person would look: within the line, or just behind it.
    assert 1 <= int(match[1]) <= len(line) + 1
    assert abs(int(match[1]) - column) <= 4, err
    shown = err.splitlines()[1:3]
    assert line in shown[0]
    assert shown[1].strip() == "^"
    assert shown[1].index("^") - shown[0].index(line) == int(match[1]) - 1
    assert "hint:" in err


def test_missing_file(ours, tmp_path):
    for name in (f"@{tmp_path}/none", f"{tmp_path}/none", "none.txt", "@none"):
        err = stopped(ours.again("-c", PROGRAM, flags=preload(name)), code=2)
        assert "none" in err


def test_file_that_is_a_folder_or_no_text(ours, tmp_path):
    (tmp_path / "bytes.txt").write_bytes(b"import wave\n\xff\xfe\n")
    for name in (f"@{tmp_path}", tmp_path / "bytes.txt"):
        stopped(ours.again("-c", PROGRAM, flags=preload(name)), code=2)


def test_usage_errors_come_before_any_import(ours, lib):
    result = ours.again(
        "-c", PROGRAM, flags=preload("import noisy", "import 9"), env={"PYTHONPATH": str(lib)}
    )
    assert (result.code, result.out) == (2, "")


def test_preload_without_argument(ours):
    for args in (["--preload"], ["--preload="], ["--preload", "", "-c", PROGRAM]):
        result = ours.again(*args)
        assert (result.code, result.out) == (2, "")
        assert "--preload" in result.err


# ---------------------------------------------------------------------------------------------- the environment

READ = "import json, os, env_reader; print(json.dumps([env_reader.seen, {k: v for k, v in os.environ.items() if k.startswith('PL_')}]))"


def test_environment_lines_hold_for_the_process(run, env):
    flags = preload("import env_reader", "PL_A=set", "PL_B?=kept", "PL_C?=new")
    seen, environ = json.loads(
        fine(run("-c", READ, env={**env, "PL_A": "old", "PL_B": "own"}, flags=flags)).out
    )
    # In force from the start, wherever they stand; in C too.
    assert seen == {"PL_A": ["set", "set"], "PL_B": ["own", "own"], "PL_C": ["new", "new"]}
    assert environ == {"PL_A": "set", "PL_B": "own", "PL_C": "new"}


def test_environment_of_one_entry(run, env):
    flags = preload("PL_A=one PL_B?=two PL_C?=three import env_reader", "import env_other")
    program = READ.replace("env_reader;", "env_reader, env_other;").replace(
        "[env_reader.seen,", "[env_reader.seen, env_other.seen,"
    )
    result = fine(run("-c", program, env={**env, "PL_B": "own"}, flags=flags))
    seen, other, environ = json.loads(result.out)
    assert seen == {"PL_A": ["one", "one"], "PL_B": ["own", "own"], "PL_C": ["three", "three"]}
    assert other == {"PL_A": None, "PL_B": "own", "PL_C": None}
    assert environ == {"PL_B": "own"}


def test_environment_of_a_failing_optional_entry_is_taken_back(run, env):
    flags = preload("PL_A=one optional no_such_thing")
    assert (
        fine(run("-c", "import os; print(os.environ.get('PL_A'))", env=env, flags=flags)).out
        == "None\n"
    )


def test_variable_set_by_a_module_stays(run, env, lib):
    lib.write({"setter.py": "import os\nos.environ['PL_B'] = 'by module'\n"})
    flags = preload("PL_A=one import setter")
    assert fine(run("-c", "import os; print(os.environ.get('PL_B'), os.environ.get('PL_A'))", env=env, flags=flags)).out == "by module None\n"  # fmt: skip


def test_python_variables_in_environment_lines(run, env):
    """They apply from the start of the process, so Python itself obeys them."""
    flags = preload("PYTHONHASHSEED=42", "PYTHONDONTWRITEBYTECODE=1")
    program = "import sys; print(hash('x'), sys.flags.dont_write_bytecode)"
    expected = run.stock(
        "-c", program, env={"PYTHONHASHSEED": "42", "PYTHONDONTWRITEBYTECODE": "1"}
    )
    assert fine(run("-c", program, env=env, flags=flags)).out == expected.out


# ---------------------------------------------------------------------------------------------- surroundings

WHERE = "import where, sys, json; print(json.dumps([where.path, where.argv, sys.path, sys.argv, where.name, where.file]))"


@pytest.fixture
def programs(tree, lib) -> Tree:
    """The same program in every form that Python can run."""
    tree.write(
        {
            "app/script.py": WHERE + "\n",
            "app/beside.py": "X = 1\n",
            "app/pack/__init__.py": "",
            "app/pack/__main__.py": WHERE + "\n",
            "app/pack/sub.py": WHERE + "\n",
            "app/folder/__main__.py": WHERE + "\n",
            "app/folder/beside.py": "X = 1\n",
            "app/space/deep/__init__.py": "",
            "app/space/deep/__main__.py": WHERE + "\n",
        }
    )
    (tree / "app/link.py").symlink_to("folder/__main__.py")
    with zipfile.ZipFile(tree / "app/app.zip", "w") as archive:
        archive.writestr("__main__.py", WHERE + "\n")
        archive.writestr("beside.py", "X = 1\n")
    return tree.settle()


KINDS = {
    "c": ["-c", WHERE, "a"],
    "m_module": ["-m", "script", "a"],
    "m_package": ["-m", "pack", "a"],
    "m_submodule": ["-m", "pack.sub"],
    "m_deep_package": ["-m", "space.deep", "a"],
    "file": ["script.py", "a"],
    "file_absolute": ["{app}/script.py"],
    "file_elsewhere": ["../app/script.py"],
    "link": ["link.py"],
    "folder": ["folder", "a"],
    "folder_absolute": ["{app}/folder/"],
    "zip": ["app.zip", "a"],
    "stdin": ["-", "a"],
    "safe_c": ["-P", "-c", WHERE],
    "safe_file": ["-P", "script.py"],
    "safe_folder": ["-P", "folder"],
    "isolated_file": ["-I", "script.py"],
}


@pytest.mark.parametrize("name", KINDS)
def test_preload_runs_in_the_programs_surroundings(run, programs, env, name):
    """sys.path[0], sys.argv and __main__.__file__ are in place while preload runs, and sys.path[0] is there once afterwards."""
    if run.lab.version < (3, 11) and name.startswith("safe"):
        pytest.skip("-P is new in 3.11")
    app = programs / "app"
    args = [x.format(app=app) if "{app}" in x else x for x in KINDS[name]]
    if name.startswith("isolated"):
        # -I ignores PYTHONPATH: let a .pth-like line find the module.
        args = ["-I", "-c", f"import sys; sys.path.append({str(programs)!r})\n{WHERE}"]
    kwargs = {"env": env, "cwd": app, "input": WHERE}
    stock = json.loads(run.stock(*args, **kwargs).out)
    if name.startswith("isolated"):
        result = fine(run(*args, flags=preload("import wave"), **kwargs))
        assert json.loads(result.out)[2] == stock[2]
        return
    path, argv, final_path, final_argv, module_name, file = json.loads(
        fine(run(*args, flags=preload("import where"), **kwargs)).out
    )
    assert final_path == stock[2]
    assert final_argv == stock[3]
    assert path == stock[0], "sys.path while preloading"
    assert module_name == "where"
    assert (argv, file) == (stock[1], stock[5])


@pytest.mark.parametrize("name", ["c", "file", "folder", "zip", "m_module", "stdin"])
def test_preload_finds_modules_beside_the_program(run, programs, env, name):
    flags = preload("import beside")
    if name in ("c", "m_module", "stdin", "file"):
        assert (programs / "app/beside.py").exists()
    result = run(*KINDS[name], env=env, cwd=programs / "app", input=WHERE, flags=flags)
    assert fine(result)


def test_isolated_preload_does_not_find_modules_beside_the_program(run, programs):
    result = run("-I", "script.py", cwd=programs / "app", flags=preload("import beside"))
    assert result.code == 1 and "beside" in result.err


def test_modules_may_change_the_path(run, env, programs):
    program = "import sys; print(sys.path)"
    for args in (["-c", program], [programs / "app/script.py"]):
        stock = run.stock(*args, env=env)
        result = fine(run(*args, env=env, flags=preload("import pather")))
        before, after = stock.out, result.out
        assert after.count("/added/by/pather") >= 1 and after.count("/second") >= 1
        first = (json.loads(before)[2] if "script" in str(args[0]) else eval(before))[0]
        path = json.loads(after)[2] if "script" in str(args[0]) else eval(after)
        assert path[0] == first and path.count(first) == 1


def test_collector_after_preload_is_as_stock_leaves_it(run, env):
    program = (
        "import gc, sys, collect, json\n"
        "print(json.dumps([gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), gc.get_debug(), len(gc.garbage),"
        " any(o is collect for o in gc.get_objects()), any(o is collect.keep for o in gc.get_objects()),"
        " collect.keep[7] in gc.get_objects(2) + gc.get_objects(1) + gc.get_objects(0),"
        " gc.get_count()[0] <= gc.get_threshold()[0] + 100]))\n"
        "gc.collect(); print(sum(type(o).__name__ == 'Node' for o in gc.get_objects()))"
    )
    stock = run.stock("-c", program, env=env)
    result = fine(run("-c", program, env=env, flags=preload("import collect")))
    assert result.out == stock.out


@pytest.mark.slow  # 3 s each.
def test_full_collections_are_held_back_while_preloading_and_not_longer(run, env, lib):
    lib.write(
        {
            "many.py": (
                "import gc, weakref\n"
                "class Node: pass\n"
                "def garbage():\n"
                "    node = Node(); node.node = node\n"
                "    return weakref.ref(node)\n"
                "young = garbage()\n"
                "keep = [[i] for i in range(300_000)]\n"
                "died_young = young() is None\n"
            )
        }
    )
    # A few objects more are no reason for a full collection, three times as many are, as in stock.
    program = (
        "import gc, many; full = lambda: gc.get_stats()[2]['collections']\n"
        "begin = full(); few = [[i] for i in range(30_000)]; print(many.died_young, full() - begin)\n"
        "many = [[i] for i in range(900_000)]; print(full() > begin)\n"
    )
    stock = run.stock("-c", program, env=env)
    assert stock.out == "True 0\nTrue\n"
    result = fine(run("-c", program, env=env, flags=preload("import many")))
    assert result.out == stock.out
    program = (
        "import gc; print(gc.get_stats()[2]['collections'], gc.get_stats()[0]['collections'] > 100)"
    )
    assert int(run.stock("-c", f"import many; {program}", env=env).out.split()[0]) > 0
    assert fine(run("-c", program, env=env, flags=preload("import many"))).out == "0 True\n"


def test_module_that_sets_the_collector_is_obeyed(run, env, lib):
    lib.write(
        {
            "tuned.py": "import gc\ngc.set_threshold(1234, 5, 6)\n",
            "disabled.py": "import gc\ngc.disable()\n",
            "freezes.py": "import gc\ngc.collect()\ngc.freeze()\n",
        }
    )
    # Frozen: the same but for a few objects that belong to the program.
    program = (
        "import gc; print(gc.isenabled(), gc.get_threshold()[:2], gc.get_freeze_count() > 1000)"
    )
    for module in ("tuned", "disabled", "freezes"):
        stock = run.stock("-c", f"import {module}; {program}", env=env)
        assert fine(run("-c", program, env=env, flags=preload(f"import {module}"))).out == stock.out


def test_thread_left_by_a_module_goes_on(run, env):
    program = (
        "import sys, threading; t = sys.modules['threader']\n"
        "print(t.thread.is_alive(), [x.name for x in threading.enumerate()])\n"
        "t.event.set(); t.thread.join(5); print(t.thread.is_alive())"
    )
    out = fine(run("-c", program, env=env, flags=preload("import threader"))).out
    assert out == "True ['MainThread', 'left behind']\nFalse\n"


def test_preload_happens_on_the_main_thread_before_any_other(run, env, lib):
    lib.write({"who.py": "import threading\nprint(threading.current_thread() is threading.main_thread(), threading.active_count(), flush=True)\n"})  # fmt: skip
    assert fine(run("-c", "pass", env=env, flags=preload("import who"))).out == "True 1\n"


def test_signal_handlers_of_modules_stay(run, env, lib):
    lib.write(
        {"handler.py": "import signal\nsignal.signal(10, lambda *a: print('handled', a[0]))\n"}
    )
    program = "import signal; signal.raise_signal(10)"
    assert fine(run("-c", program, env=env, flags=preload("import handler"))).out == "handled 10\n"


def test_unchanged_ends_after_preload(run, env):
    for program in ("import sys; sys.exit(5)", "1/0", "import os; os.kill(os.getpid(), 2)", "import atexit; atexit.register(print, 'bye')"):  # fmt: skip
        result = run("-c", program, env=env, flags=preload("import m", "import p.s"))
        assert result == run.stock("-c", program, env=env)


def test_interactive_program_after_preload(run, env):
    result = run("-i", "-c", "x = 1", input="import sys; print('m' in sys.modules, x)\n", env=env, flags=preload("import m"))  # fmt: skip
    assert "True 1" in result.out


def test_argv_shows_no_preload(run, env):
    program = "import sys; print(sys.argv, sys.orig_argv[1:])"
    expected = run.stock("-c", program, "x")
    assert fine(run("-c", program, "x", env=env, flags=preload("import m"))).out == expected.out


def test_preload_shows_in_importtime(run, env):
    result = run("-X", "importtime", "-c", "pass", env=env, flags=preload("import p.s"))
    assert re.search(r"\|\s+p\.s$", result.err, re.M)


# ---------------------------------------------------------------------------------------------- children


def test_flag_is_not_inherited_and_variable_is(ours, installed, lib):
    """Children of an installed pylaunch are pylaunch again: they preload only what the variable says."""
    from conftest import finish, start

    program = (
        "import subprocess, sys, multiprocessing, os\n"
        "show = \"import sys; print('m' in sys.modules, 'n' in sys.modules, flush=True)\"\n"
        "def child(): exec(show)\n"
        "if __name__ == '__main__':\n"
        "    print(os.path.basename(sys.executable), 'm' in sys.modules, 'n' in sys.modules, flush=True)\n"
        "    subprocess.run([sys.executable, '-c', show])\n"
        "    p = multiprocessing.get_context('spawn').Process(target=child); p.start(); p.join()\n"
        "    p = multiprocessing.get_context('fork').Process(target=child); p.start(); p.join()\n"
    )
    lib.write({"spawner.py": program})
    env = ours.env(
        {
            "PYTHONPATH": str(lib),
            "PYLAUNCH_CACHE": str(ours.warm_cache),
            "PYLAUNCH_PRELOAD": "import n",
        }
    )
    argv = [installed / "bin/pylaunch", "--preload", "import m", lib / "spawner.py"]
    code, out, err = finish(start(argv, env, lib.root))
    assert (code, err) == (0, b"")
    assert out.decode().splitlines() == [
        "pylaunch True True",
        "False True",  # subprocess
        "False True",  # spawn
        "True True",  # A forked child is what its parent was.
    ]


def test_failing_preload_variable_stops_children_too(ours, installed, lib):
    from conftest import finish, start

    program = "import subprocess, sys; print(subprocess.run([sys.executable, '-c', 'print(1)'], capture_output=True, env={**__import__('os').environ, 'PYLAUNCH_PRELOAD': 'import nothing_here'}).returncode)"  # fmt: skip
    env = ours.env({"PYLAUNCH_CACHE": str(ours.warm_cache)})
    code, out, err = finish(start([installed / "bin/pylaunch", "-c", program], env, lib.root))
    assert (code, out, err) == (0, b"1\n", b"")


# ---------------------------------------------------------------------------------------------- with others


def test_explain_names_entries_and_times(ours, env):
    result = ours.again(
        "-c", PROGRAM, env=env, flags=[*preload("import m", "optional nothing_here"), "--explain"]
    )
    assert result.out == "program\n"
    assert all(x.startswith("pylaunch: explain: ") for x in result.err.splitlines())
    assert "nothing_here" in result.err


def test_many_threads_after_preload(run, env):
    program = (
        "import threading, importlib\nout = []\n"
        "def work(n):\n    import asyncio, email.message, xml.dom.minidom, sqlite3, p.s, m; out.append(m.X + p.s.X)\n"
        "ts = [threading.Thread(target=work, args=(i,)) for i in range(8)]\n"
        "[t.start() for t in ts]; [t.join() for t in ts]; print(out)"
    )
    flags = preload("import asyncio, email.message", "import xml.dom.minidom", "import m, p.s")
    assert fine(run("-c", program, env=env, flags=flags)).out == f"{['ms'] * 8}\n"


def test_preload_from_standard_input_program_keeps_the_input(run, env):
    result = fine(run("-", input="import sys\nprint(m.X if 'm' in globals() else sys.modules['m'].X)\n", env=env, flags=preload("import m")))  # fmt: skip
    assert result.out == "m\n"


def test_module_reading_standard_input_while_preloading(run, env, lib):
    lib.write({"reader.py": "import sys\nline = sys.stdin.readline()\n"})
    result = fine(run("-c", "import reader, sys; print([reader.line, sys.stdin.read()])", input="one\ntwo\n", env=env, flags=preload("import reader")))  # fmt: skip
    assert result.out == "['one\\n', 'two\\n']\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_exit_120_after_preload(run, env):
    with open("/dev/full", "w") as full:
        assert (
            run.again("-c", "print('x')", env=env, stdout=full, flags=preload("import m")).code
            == 120
        )
