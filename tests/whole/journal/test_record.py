# ruff: noqa: E501 - programs in strings read better on long lines.
"""--record writes the preload file of what a program used, and --explain proves that nothing is left to other threads."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Result, Tree, clean_environment, finish, start

LAZY_CLASS = """
import importlib, sys, types

class Lazy(types.ModuleType):
    def __init__(self, name, path, spec, symbols):
        super().__init__(name)
        self.__path__, self.__spec__, self._symbols = path, spec, symbols
    def __getattr__(self, name):
        if name not in self._symbols:
            raise AttributeError(name)
        value = getattr(importlib.import_module("." + self._symbols[name], self.__name__), name)
        setattr(self, name, value)
        return value

sys.modules[__name__] = Lazy(__name__, __path__, __spec__, {"First": "first", "Second": "second", "Dummy": "first"})
"""
FILES = {
    "lazy_class/__init__.py": LAZY_CLASS,
    "lazy_class/first.py": (
        "class DummyObject(type): pass\nclass First: pass\n"
        "class Dummy(metaclass=DummyObject):\n    _backends = ['tensorflow']\n"
    ),
    "lazy_class/second.py": "import lib_inner\nclass Second: pass\n",
    "lazy_function/__init__.py": (
        "def __getattr__(name):\n    if name == 'Third':\n        from importlib import import_module\n"
        "        return import_module('lazy_function.third').Third\n    raise AttributeError(name)\n"
    ),
    "lazy_function/third.py": "class Third: pass\n",
    "lib.py": "import lib_inner\ndef work():\n    import lib_late\n    import _private_late\n",
    "lib_inner.py": "",
    "lib_late.py": "",
    "lib_thread.py": "import lib_inner\n",
    "_private_late.py": "",
    "package/__init__.py": "",
    "package/module.py": "",
    "half.py": "import half_left\nimport absent_backend\n",
    "half_left.py": "",
    "reads.py": "import os\nSEEN = os.environ.get('PL_MODE')\n",
}


class Recorder:
    """A folder of libraries and one of the program; runs pylaunch there."""

    def __init__(self, lab, base: Path):
        self.lab = lab
        self.libraries = Tree(base / "libraries").write(FILES)
        self.program = Tree(base / "program")
        self.file = base / "recorded.txt"

    def run(self, *args, flags=(), env=None, **kwargs) -> Result:
        launch = [self.lab.pylaunch, "--python", self.lab.python, "--cache-mode=off", *flags]
        process = start([*launch, *map(str, args)], self.env(env), self.program.root, **kwargs)
        code, out, err = finish(process)
        return Result(code, out.decode(), err.decode())

    def env(self, extra=None):
        more = {"PYTHONPATH": str(self.libraries), **(extra or {})}
        return clean_environment(self.lab.home, **more)

    def record(self, source: str, *args, flags=(), code=0, env=None, **files: str) -> list[str]:
        """Runs `source` as main.py with --record; the lines of the file that are no comments."""
        self.program.write({"main.py": source, **{f"{n}.py": s for n, s in files.items()}})
        done = self.run("main.py", *args, flags=["--record", self.file, *flags], env=env)
        assert done.code == code, done.err
        return self.lines()

    def lines(self) -> list[str]:
        text = self.file.read_text()
        return [x.split("  #")[0].rstrip() for x in text.splitlines() if x and x[0] != "#"]

    def explain(self, *args, flags=()) -> Result:
        return self.run(*args, flags=["--explain", *flags])

    def with_record(self) -> Result:
        """main.py again, with what was recorded."""
        done = self.explain("main.py", flags=["--preload", self.file])
        assert done.code == 0, done.err
        return done


@pytest.fixture
def recorder(lab, tmp_path) -> Recorder:
    lab.need_pylaunch()
    return Recorder(lab, tmp_path)


def thread_imports(result: Result) -> list[tuple[str, str]]:
    """(module, thread) of the lines of --explain; the last line must count as many."""
    lines = [x for x in result.err.splitlines() if x.startswith("pylaunch: explain: threads: ")]
    found = [re.search(r"'([\w.]+)' imported on thread '(.+?)' \(\d+ module", x) for x in lines]
    total = re.search(r"threads: (\d+) imports? on threads other than the main one", lines[-1])
    assert total and int(total[1]) == len([x for x in found if x]), result.err
    return [(x[1], x[2]) for x in found if x]


# ---------------------------------------------------------------------------------------------- what


def test_the_top_of_what_the_program_asked_for_in_its_order(recorder):
    lines = recorder.record(
        "import wave\nimport lib, package.module\nimport lib_inner\nimport os\n"
    )
    assert lines == ["import wave", "import lib", "import lib_inner", "import package.module"]


def test_own_modules_are_looked_through(recorder):
    lines = recorder.record(
        "import own\n", own="import lib\nimport own_too\n", own_too="import package.module\n"
    )
    assert lines == ["import lib", "import package.module"]


def test_what_libraries_import_when_called_is_there_and_private_names_are_optional(recorder):
    lines = recorder.record("import lib\nlib.work()\n")
    assert lines == ["import lib", "import lib_late", "optional import _private_late"]
    assert "What libraries import only when they are called." in recorder.file.read_text()


def test_symbols_of_lazy_modules_of_each_kind(recorder):
    lines = recorder.record(
        "from lazy_class import First, Second\nimport lazy_function\nlazy_function.Third\n"
    )
    assert lines == ["from lazy_class import First, Second", "from lazy_function import Third"]


def test_a_placeholder_is_no_symbol(recorder):
    lines = recorder.record("from lazy_class import Dummy\n")
    assert lines == ["import lazy_class.first"]
    assert recorder.with_record().code == 0


def test_threads_are_marked_and_then_have_nothing_left(recorder):
    source = (
        "import threading, lazy_class\n"
        "def work():\n    from lazy_class import Second\n    import lib_thread\n"
        "thread = threading.Thread(target=work, name='the worker')\nthread.start(); thread.join()\n"
    )
    lines = recorder.record(source)
    threaded = ["import lazy_class", "from lazy_class import Second", "import lib_thread"]
    assert [x for x in lines if x != "import threading"] == threaded
    text = recorder.file.read_text()
    assert "Met on other threads than the main one" in text
    assert text.count("# the worker: work in main.py") == 2
    before = thread_imports(recorder.explain("main.py"))
    assert before == [("lazy_class.second", "the worker"), ("lib_thread", "the worker")]
    assert thread_imports(recorder.with_record()) == []


def test_own_modules_met_on_threads_are_there(recorder):
    source = (
        "import threading\ndef work():\n    import own\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()\n"
    )
    assert recorder.record(source, own="import lib\n")[-1] == "import own"
    assert thread_imports(recorder.with_record()) == []


def test_a_program_without_threads_is_told_so(recorder):
    done = recorder.explain("-c", "import lib")
    assert thread_imports(done) == []
    assert "threads: 0 imports on threads other than the main one" in done.err


def test_a_missing_module_on_a_thread_is_no_import(recorder):
    source = (
        "import threading\ndef work():\n    try:\n        import absent\n    except ImportError:\n        pass\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()"
    )
    assert thread_imports(recorder.explain("-c", source)) == []


def test_what_a_failed_import_left_is_there_and_what_failed_is_not(recorder):
    lines = recorder.record(
        "try:\n    import half\nexcept ImportError:\n    pass\ntry:\n    import absent\nexcept ImportError:\n    pass\n"
    )
    assert lines == ["import half_left"]
    recorder.with_record()


def test_what_only_the_program_could_find_is_optional(recorder, tmp_path):
    Tree(tmp_path / "elsewhere").write({"hidden.py": ""})
    source = f"import sys\nsys.path.append({str(tmp_path / 'elsewhere')!r})\nimport hidden\n"
    assert recorder.record(source) == ["optional import hidden"]
    recorder.with_record()


def test_variables_that_the_program_sets_before_an_import_are_set_before_preloading(recorder):
    source = (
        "import os\nos.environ['PL_MODE'] = 'fast'\nos.environ['PL_API_KEY'] = 'hush'\n"
        "os.environ['PL_LONG'] = 'a b'\nimport reads\nassert reads.SEEN == 'fast', reads.SEEN\n"
        "os.environ['PL_AFTER'] = '1'\n"
    )
    assert recorder.record(source) == ["PL_MODE?=fast", "import reads"]
    text = recorder.file.read_text()
    assert "# PL_API_KEY?=\n# PL_LONG?=" in text and "hush" not in text
    recorder.with_record()


SETTERS = {
    "library": ("import tool; tool.by_name()", []),
    "library_data": ("import tool; tool.by_global()", []),
    "library_imported": ("import body", []),
    "library_told": ("import tool; tool.put('PL_SET', 'x')", ["PL_SET?=x"]),
    "c": ("import ctypes; ctypes.CDLL(None).setenv(b'PL_SET', b'x', 1)", []),
    "put_back": ("old = os.environ.copy(); os.environ.clear(); os.environ.update(old)", []),
    "unset": ("os.environ['PL_SET'] = 'x'; del os.environ['PL_SET']", []),
    "thread": ("import threading\ndef f(): os.environ['PL_SET'] = 'x'\nt = threading.Thread(target=f); t.start(); t.join()", ["PL_SET?=x"]),
    "own_module": ("import sets", ["PL_SET?=x"]),
    "fork": ("pid = os.fork()\nif not pid: os.environ['PL_SET'] = 'x'; os._exit(0)\nos.waitpid(pid, 0)", []),
}  # fmt: skip


@pytest.mark.parametrize("how", SETTERS)
def test_only_what_the_programs_own_code_sets_is_set_before_preloading(recorder, tmp_path, how):
    tool = "import os\nNAME = 'PL_SET'\ndef by_name(): os.environ['PL_SET'] = 'x'\ndef by_global(): os.environ[NAME] = 'x'\n"
    teller = "import os\ndef put(name, value): os.environ[name] = value\n"
    Tree(tmp_path / "more/site-packages").write(
        {"tool.py": teller if how == "library_told" else tool}
    )
    Tree(tmp_path / "more/site-packages").write(
        {"body.py": "import told; told.put(''.join(['PL_', 'SET']), 'x')", "told.py": teller}
    )
    recorder.program.write({"sets.py": "import os\nos.environ['PL_SET'] = 'x'\n"})
    statement, expected = SETTERS[how]
    for flags in ([], ["--preload", "import os.path"]):
        source = f"import os, sys\nsys.path.append({str(tmp_path / 'more/site-packages')!r})\n{statement}\nimport lib\n"
        lines = recorder.record(source, flags=flags)
        assert [x for x in lines if "?=" in x] == expected
        assert "import lib" in " ".join(lines)


def test_what_was_preloaded_stays(recorder):
    flags = ["--preload", "PL_MODE=x", "--preload", "import lib, reads", "--preload", "wave:open"]
    lines = recorder.record("import lib, package.module\n", flags=flags)
    assert lines == ["PL_MODE=x", "import lib, reads", "wave:open", "import package.module"]


@pytest.mark.parametrize("how", ["-c", "-m", "folder", "stdin"])
def test_every_way_to_start_a_program(recorder, how):
    source = "import lib\nfrom lazy_class import First\n"
    recorder.program.write({"main.py": source, "app/__main__.py": source, "app/__init__.py": ""})
    args = {"-c": ["-c", source], "-m": ["-m", "app"], "folder": ["app"], "stdin": ["-"]}[how]
    with (recorder.program / "main.py").open() as stdin:
        done = recorder.run(*args, flags=["--record", recorder.file], stdin=stdin)
    assert done.code == 0, done.err
    assert recorder.lines() == ["import lib", "from lazy_class import First"]


def test_the_header_says_what_was_recorded(recorder):
    recorder.record("import lib\n", "--name", "two words\nand a line")
    head = recorder.file.read_text().splitlines()[:3]
    version = ".".join(map(str, recorder.lab.version))
    assert head[0].startswith("# Written by pylaunch ")
    assert "main.py --name" in head[1] and "two words" in head[1]
    assert all(line.startswith("#") for line in head)
    assert f"CPython {version}." in "\n".join(recorder.file.read_text().splitlines()[:5])


def test_the_image_is_offered_as_a_comment_that_can_be_uncommented(recorder):
    recorder.record("import wave\n")
    text = recorder.file.read_text()
    (line,) = re.findall(r"^# (use image +# start from an image .*)$", text, re.M)
    recorder.file.write_text(text.replace(f"# {line}", line))
    told = recorder.with_record().err
    number = text[: text.index(line)].count("\n") + 1
    assert f"settings: image by {recorder.file}:{number}:1, " in told


def test_directives_stay(recorder):
    recorder.file.write_text("use exit full\nimport wave\nuse image\n")
    lines = recorder.record("import lib\n", flags=["--preload", recorder.file])
    assert lines == ["use image", "use exit full", "import wave", "import lib"]
    assert "# use image" not in recorder.file.read_text()


# ---------------------------------------------------------------------------------------------- when

ENDS = {
    "returns": ("", 0),
    "raises": ("raise ValueError('no')\n", 1),
    "exits": ("sys.exit(3)\n", 3),
    "exits in a thread's shadow": (
        "import threading\nthreading.Thread(target=lambda: __import__('package.module')).start()\nsys.exit(4)\n",
        4,
    ),
    "is interrupted": ("os.kill(os.getpid(), signal.SIGINT)\n", -signal.SIGINT),
}


@pytest.mark.parametrize("end", ENDS)
def test_written_however_the_program_ends(recorder, end):
    source, code = ENDS[end]
    lines = recorder.record(f"import os, signal, sys\nimport lib\n{source}", code=code)
    assert "import lib" in lines
    assert ("import package.module" in lines) == ("thread" in end)


def test_os_exit_leaves_the_old_file(recorder):
    recorder.file.write_text("# old\n")
    recorder.record("import lib, os\nos._exit(0)\n")
    assert recorder.file.read_text() == "# old\n"


def test_forked_children_and_child_processes_write_nothing(recorder):
    source = (
        "import os, subprocess, sys\nimport lib\n"
        "if os.fork() == 0:\n    import package.module\n    sys.exit(0)\nos.wait()\n"
        f"assert {str(recorder.file)!r} not in str(os.environ)\n"
        "import multiprocessing\n"
        "if __name__ == '__main__':\n    p = multiprocessing.get_context('fork').Process(target=print); p.start(); p.join()\n"
        f"assert not os.path.exists({str(recorder.file)!r})\n"
    )
    recorder.program.write({"main.py": source})
    done = recorder.run("main.py", env={"PYLAUNCH_RECORD": str(recorder.file)})
    assert done.code == 0, done.err
    assert "import lib" in recorder.lines() and "import package.module" not in recorder.lines()
    assert os.listdir(recorder.file.parent).count("recorded.txt") == 1


def test_the_folder_is_the_one_of_the_start(recorder):
    recorder.program.write({"main.py": "import os\nos.chdir('/')\nimport lib\n"})
    assert recorder.run("main.py", flags=["--record", "here.txt"]).code == 0
    assert "import lib" in (recorder.program / "here.txt").read_text()


@pytest.mark.parametrize("where", ["no/such/folder/x.txt", ".", "/dev/null", "main.py/x.txt"])
def test_a_file_that_cannot_be_written_is_told_before_the_program_starts(recorder, where):
    recorder.program.write({"main.py": "print('ran')\n"})
    done = recorder.run("main.py", flags=["--record", where])
    assert (done.code, done.out) == (2, "")
    assert re.match(
        r"pylaunch: error: --record: cannot write \S+\n  cause: .+\n  hint:  .+\n\Z", done.err
    )


def test_a_folder_that_is_read_only_is_told_before_the_program_starts(
    recorder, ordinary_root, tmp_path
):
    (tmp_path / "closed").mkdir(mode=0o555)
    command = [*ordinary_root, recorder.lab.pylaunch, "--python", recorder.lab.python]
    command += ["--record", tmp_path / "closed" / "x.txt", "-c", "print('ran')"]
    done = subprocess.run(command, env=recorder.env(), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Permission denied" in done.stderr


def test_what_fails_at_the_end_is_one_line_and_changes_no_exit_code(recorder, tmp_path):
    (tmp_path / "goes").mkdir()
    source = f"import lib, os, sys\nos.rmdir({str(tmp_path / 'goes')!r})\nsys.exit(5)\n"
    recorder.program.write({"main.py": source})
    done = recorder.run("main.py", flags=["--record", tmp_path / "goes" / "x.txt"])
    assert done.code == 5
    assert re.fullmatch(r"pylaunch: warning: \S+x.txt was not written: No such file .*\n", done.err)


def test_a_stopped_launch_leaves_the_old_file(recorder):
    recorder.file.write_text("# old\n")
    flags = ["--record", recorder.file, "--preload", "import absent"]
    assert recorder.run("-c", "1", flags=flags).code == 1
    assert recorder.file.read_text() == "# old\n"


def test_the_program_sees_nothing_of_it(recorder):
    source = (
        "import atexit, os, sys, json, threading\n"
        "atexit.register(lambda: print('first registered'))\n"
        "atexit.register(lambda: print('last registered'))\n"
        "print(sorted(sys.modules), sorted(os.environ), sys.argv, sys.orig_argv[1:], threading.active_count())\n"
        "print(sorted(int(x) for x in os.listdir('/proc/self/fd')))\n"
    )
    recorder.program.write({"main.py": source})
    plain = recorder.run("main.py", "x")
    recorded = recorder.run("main.py", "x", flags=["--record", recorder.file])
    assert (recorded.code, recorded.out, recorded.err) == (0, plain.out, "")


def test_link_is_followed_and_mode_kept(recorder, tmp_path):
    real = tmp_path / "real.txt"
    real.write_text("# old\n")
    real.chmod(0o640)
    recorder.file.symlink_to(real)
    assert recorder.record("import lib\n") == ["import lib"]
    assert recorder.file.is_symlink() and real.stat().st_mode & 0o777 == 0o640


# ---------------------------------------------------------------------------------------------- real packages

TRANSFORMERS = """
import threading
from transformers import AutoConfig, BertConfig

def build():
    from transformers.onnx import OnnxConfig
    from transformers import GPT2Config, get_linear_schedule_with_warmup
    AutoConfig.for_model("electra")

threads = [threading.Thread(target=build, name=f"builder {i}") for i in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_lazy_symbols_of_transformers_in_four_threads(recorder):
    pytest.importorskip("transformers")
    recorder.lab = type(recorder.lab)(
        Path(sys.executable), recorder.lab.pylaunch, recorder.lab.home, recorder.lab.version
    )
    recorder.program.write({"main.py": TRANSFORMERS})
    done = recorder.run("main.py", flags=["--record", recorder.file, "--explain"])
    assert done.code == 0, done.err
    assert {name.split(" ")[0] for _, name in thread_imports(done)} == {"builder"}
    text = recorder.file.read_text()
    for symbol in ("AutoConfig", "BertConfig", "GPT2Config", "OnnxConfig"):
        assert re.search(rf"^from transformers\S* import .*\b{symbol}\b", text, re.M), text
    assert "transformers 4." in text
    assert thread_imports(recorder.with_record()) == []
