# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""Of files and folders, an image depends on the answers that preloading got, however it asked.

Each way of asking has a module of its own here. Something is changed behind an image's back, and
stock tells what the program must print then. What does not change an answer costs no image.
"""

import importlib.util
import os
import py_compile
import subprocess
import time

import pytest
from conftest import Tree, tty_session
from imaged import RACY, Imaged, has, restored, why_not_made

SHOW = "import asks; print(asks.seen)"
# Not the module's own folder: importlib lists that, and then every name in it counts.
HERE = """import os, sys
here = os.path.join(os.path.dirname(__file__), "data")
at = lambda name: os.path.join(here, name)
"""


def _relink(path, target):
    os.replace(_link(path.with_name("new"), target), path)


def _link(path, target):
    path.symlink_to(target)
    return path


def _compile(path, text, mode=py_compile.PycInvalidationMode.UNCHECKED_HASH):
    """Only bytecode says so, and that nobody is to look at the source."""
    source = path.with_name("other-source")
    source.write_text(text)
    cache = importlib.util.cache_from_source(str(path))
    py_compile.compile(str(source), cache, dfile=str(path), invalidation_mode=mode)


def _bear(path):
    path.mkdir()


def _write(path, text="x"):
    path.write_text(text)


# What a module asks, what is there before, what is changed behind the image's back.
FILES = {
    "the-file": "old",
    "the-folder/": None,
    "r1/": None,
    "r2/": None,
    "r1/data": "1",
    "r2/data": "2",
    "listed/a": "",
}
ASKS = {
    "folder_gone": ("seen = os.path.isdir(at('the-folder'))", lambda d: (d / "the-folder").rmdir()),
    "folder_comes": ("seen = os.path.isdir(at('the-other'))", lambda d: _bear(d / "the-other")),
    "folder_replaced_by_file": ("seen = os.path.isdir(at('the-folder'))", lambda d: ((d / "the-folder").rmdir(), _write(d / "the-folder"))),
    "folder_unwritable": ("seen = os.stat(at('the-folder')).st_mode", lambda d: (d / "the-folder").chmod(0o500)),
    "link_to_folder": ("seen = os.readlink(at('link'))", lambda d: _relink(d / "link", "r2")),
    "realpath": ("seen = os.path.realpath(at('link')), os.path.isdir(at('link'))", lambda d: _relink(d / "link", "r2")),
    "c_realpath": ("import ctypes; f = ctypes.CDLL(None).realpath; f.restype = ctypes.c_char_p; seen = f(at('link/data').encode(), None)", lambda d: _relink(d / "link", "r2")),
    "dangling_link": ("seen = os.readlink(at('dangling'))", lambda d: _relink(d / "dangling", "nowhere2")),
    "lstat": ("seen = os.path.islink(at('the-file'))", lambda d: ((d / "the-file").rename(d / "moved"), _link(d / "the-file", "moved"))),
    "link_in_listed": ("seen = [os.readlink(e.path) for e in os.scandir(here) if e.is_symlink() and e.name == 'link']", lambda d: _relink(d / "link", "./r1")),
    "listed_by_descriptor": ("f = os.open(at('listed'), os.O_RDONLY); seen = sorted(os.listdir(f)); os.close(f)", lambda d: _write(d / "listed/b")),
    "exclusive_fails": ("try: os.close(os.open(at('the-file'), os.O_CREAT | os.O_EXCL)); os.remove(at('the-file')); seen = 'mine'\nexcept OSError: seen = 'locked'", lambda d: (d / "the-file").unlink()),
    "exclusive_works": ("try: os.close(os.open(at('the-lock'), os.O_CREAT | os.O_EXCL)); os.remove(at('the-lock')); seen = 'mine'\nexcept OSError: seen = 'locked'", lambda d: _write(d / "the-lock")),
    "write_only_fails": ("try: os.close(os.open(at('the-log'), os.O_WRONLY)); seen = 'log'\nexcept OSError: seen = None", lambda d: _write(d / "the-log")),
    "mkdir_fails": ("try: os.mkdir(at('the-folder')); os.rmdir(at('the-folder')); seen = 'made'\nexcept OSError as e: seen = e.errno", lambda d: (d / "the-folder").rmdir()),
    "mkdir_works": ("try: os.mkdir(at('the-made')); os.rmdir(at('the-made')); seen = 'made'\nexcept OSError as e: seen = e.errno", lambda d: _bear(d / "the-made")),
    "chdir": ("old = os.getcwd()\ntry: os.chdir(at('the-folder')); seen = 1\nexcept OSError: seen = 0\nos.chdir(old)", lambda d: (d / "the-folder").rmdir()),
    "xattr": ("try: seen = os.getxattr(at('the-file'), 'user.q')\nexcept OSError as e: seen = e.errno", lambda d: os.setxattr(d / "the-file", "user.q", b"1")),
    "unchecked_bytecode": ("sys.path.append(here)\nimport bare; seen = bare.x", lambda d: _compile(d / "bare.py", "x = 2")),
    "unlink_fails": ("try: os.unlink(at('the-old')); seen = 'was there'\nexcept OSError: seen = None", lambda d: _write(d / "the-old")),
    "rename_fails": ("try: os.rename(at('the-old'), at('the-new')); seen = 'was there'\nexcept OSError: seen = None", lambda d: _write(d / "the-old")),
}  # fmt: skip


def _plant(folder, source):
    tree = Tree(folder).write({"asks.py": HERE + source + "\n"})
    data = folder / "data"
    for name, text in FILES.items():
        path = data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            path.write_text(text)
        else:
            path.mkdir(exist_ok=True)
    (data / "bare.py").write_text("x = 0")
    _compile(data / "bare.py", "x = 1")
    _link(data / "link", "r1")
    _link(data / "dangling", "nowhere")
    return tree


class Asker:
    """Runs a program behind one module `asks`."""

    def __init__(self, image: Imaged, folder):
        self.image, self.folder = image, folder
        self.env = {"PYTHONPATH": str(folder)}

    def __call__(self, *args, **kwargs):
        args = args or ("-c", SHOW)
        return self.image(*args, preload=["import asks"], env=self.env, **kwargs)

    def stock(self, *args, **kwargs):
        return self.image.stock(*(args or ("-c", SHOW)), env=self.env, **kwargs)

    def must_be_stocks(self, *args, **kwargs):
        expected, got = self.stock(*args, **kwargs), self(*args, **kwargs)
        assert got.code == expected.code == 0 and got.out == expected.out, got.err
        return got


@pytest.fixture(scope="module")
def askers(tmp_path_factory):
    """A folder each, old enough to be proved."""
    folder = tmp_path_factory.mktemp("askers")
    for name, (source, _) in ASKS.items():
        _plant(folder / name, source)
    for name, (source, *_) in (WHERE | PASSING | START).items():
        _plant(folder / name, source)
    _plant(folder / "believed", ASKS["unchecked_bytecode"][0])
    _compile(folder / "believed/data/bare.py", "x = 1", CHECKED)
    for name in ODD:
        _plant(folder / f"odd_{name}", LOOKS.format(name))
    for name in ("a", "b"):
        Tree(folder / "places" / name).write(
            {"conf.ini": name, "lib/q.py": f"x = {name!r}\n", f"sub/{name}": ""}
        )
    Tree(folder / "places" / "none").write({"other": ""})
    (folder / "prog").mkdir()
    for name in ("show", "other"):
        (folder / f"prog/{name}.py").write_text(SHOW + "\n")
    (folder / "prog/spawns.py").write_text(
        "import os, multiprocessing.process as p; print(p.ORIGINAL_DIR == os.getcwd())\n"
    )
    time.sleep(RACY)
    return folder


@pytest.mark.parametrize("name", ASKS)
def test_a_changed_answer_is_noticed(image, askers, name):
    asker = Asker(image, askers / name)
    for _ in range(2):
        got = asker.must_be_stocks()
    assert restored(got), got.err
    before = got.out
    ASKS[name][1](asker.folder / "data")
    once = name in ("unlink_fails", "rename_fails")  # Whoever runs first takes it.
    after = asker() if once else asker.must_be_stocks()
    assert after.out != before and not restored(after)


CHECKED = py_compile.PycInvalidationMode.CHECKED_HASH


def test_believed_bytecode_is_proved_and_whether_it_is_believed_a_fact(image, askers):
    asker = Asker(image, askers / "believed")
    asker.env["PYTHONDONTWRITEBYTECODE"] = "1"
    never = ("--check-hash-based-pycs", "never", "-c", SHOW)
    always = ("--check-hash-based-pycs", "always", "-c", SHOW)
    for args, seen in [(never, "1\n"), (always, "0\n")]:
        asker.must_be_stocks(*args)
        got = asker.must_be_stocks(*args)
        assert restored(got) and got.out == seen, got.err
    _compile(asker.folder / "data/bare.py", "x = 2", CHECKED)
    assert asker.must_be_stocks(*never).out == "2\n"
    assert asker.must_be_stocks(*always).out == "0\n"


ODD = ("my-plugin", "0002_more")
LOOKS = (
    "import importlib\ntry: seen = importlib.import_module({!r}).x\nexcept ImportError: seen = None"
)


@pytest.mark.parametrize("name", ODD)
def test_a_module_of_any_name_may_come(image, askers, name):
    asker = Asker(image, askers / f"odd_{name}")
    for _ in range(2):
        got = asker.must_be_stocks()
    assert restored(got) and got.out == "None\n", got.err
    Tree(image.cwd).write({f"{name}.py": "x = 1\n"})
    assert asker.must_be_stocks().out == "1\n"


# ---------------------------------------------------------------------------------------------- where it runs

# The third: whether the working directory is a fact then.
WHERE = {
    "relative": ("seen = open('conf.ini').read() if os.path.exists('conf.ini') else None",),
    "relative_path": ("sys.path.insert(0, 'lib')\ntry: from q import x as seen\nexcept ImportError: seen = None",),
    "relative_listed": ("seen = sorted(os.listdir('.'))",),
    "getcwd": ("import pathlib; p = pathlib.Path.cwd() / 'conf.ini'; seen = p.read_text() if p.exists() else None",),
    "abspath": ("p = os.path.abspath('conf.ini'); seen = os.path.exists(p) and open(p).read()",),
    "relative_link": ("seen = os.path.realpath('conf.ini').endswith('/b/conf.ini')",),
}  # fmt: skip


@pytest.mark.parametrize("name", WHERE)
def test_what_lies_in_the_working_directory_is_this_start_s(image, askers, name):
    asker, program = Asker(image, askers / name), askers / "prog/show.py"
    for place in ("a", "b", "none", "a", "b"):
        asker.must_be_stocks(program, cwd=askers / "places" / place)
    for place in ("a", "b", "none"):
        got = asker.must_be_stocks(program, cwd=askers / "places" / place)
        assert restored(got), got.err


@pytest.mark.parametrize("first", ["places/none", "/"])
def test_what_is_in_no_working_directory_asks_for_none(image, askers, first):
    """matplotlib looks for a matplotlibrc there, inspect for what it takes for sources."""
    asker, program = Asker(image, askers / "relative"), askers / "prog/show.py"
    asker.must_be_stocks(program, cwd=askers / first)
    assert restored(asker.must_be_stocks(program, cwd=askers / "prog"))
    asker.must_be_stocks(program, cwd=askers / "places/a")


def test_multiprocessing_knows_the_folder_of_this_start(image, askers):
    program, preload = askers / "prog/spawns.py", ["import multiprocessing.process"]
    for place in ("a", "b"):
        got = image(program, preload=preload, cwd=askers / "places" / place)
        assert got.out == "True\n", got.err
    assert restored(got), "nobody asked for anything there"


# ---------------------------------------------------------------------------------------------- while it was asked

PASSING = {
    "removed": ("p = at('the-file'); seen = os.path.exists(p) and open(p).read()\nif seen: os.remove(p)",),
    "retargeted": ("seen = open(at('link/data')).read(); os.symlink('r2', at('the-new')); os.rename(at('the-new'), at('link'))",),
    "added": ("seen = sorted(os.listdir(here)); open(at('more.conf'), 'w').close()",),
    "gone_again": ("import tempfile\nwith tempfile.TemporaryDirectory() as d: open(d + '/x', 'w').close(); seen = os.listdir(d)",),
    "test_file": ("p = at('writable'); open(p, 'w').close(); seen = os.path.exists(p); os.unlink(p)",),
    "kept_private_folder": ("os.makedirs(at('private'), mode=0o700, exist_ok=True); seen = os.path.isdir(at('private'))",),
    "kept_folder": ("os.makedirs(at('cache/deep'), exist_ok=True); seen = os.path.isdir(at('cache/deep'))",),
}  # fmt: skip


@pytest.mark.parametrize("name", PASSING)
def test_what_changed_while_preloading_is_no_image_s(image, askers, name):
    asker = Asker(image, askers / name)
    first = (
        asker.must_be_stocks() if name in ("gone_again", "test_file", "kept_folder") else asker()
    )
    assert ("while preloading" in "".join(n.read_text() for n in image.images("*.note"))) == (
        name in ("removed", "retargeted", "added")
    ), first.err
    # What they have left is there now, and stays.
    if name not in ("retargeted", "added"):
        for _ in range(2):
            got = asker.must_be_stocks()
        assert restored(got), got.err


def test_the_program_removes_what_preloading_read(image, askers):
    asker = Asker(image, askers / "relative")
    Tree(image.cwd).write({"conf.ini": "mine"})
    time.sleep(RACY)
    program = SHOW + "\nimport os\nif asks.seen: os.remove('conf.ini')"
    assert asker("-c", program).out == "mine\n"
    assert asker("-c", program).out == "None\n"


# ---------------------------------------------------------------------------------------------- what is this start's

# Of this pytest alone, as several may run at once.
SHARED = f"/dev/shm/pylaunch-key-test-{os.getpid()}"
TEMPORARY = {
    "mkdtemp": "import tempfile; d = tempfile.mkdtemp(); seen = os.path.isdir(d)",
    "TemporaryDirectory": "import tempfile; d = tempfile.TemporaryDirectory(); seen = os.path.isdir(d.name)",
    "mkstemp": "import tempfile; fd, p = tempfile.mkstemp(); os.close(fd); seen = os.path.exists(p)",
    "c": "import ctypes; d = ctypes.create_string_buffer(b'/tmp/keyXXXXXX'); ctypes.CDLL(None).mkdtemp(d); seen = os.path.isdir(d.value)",
    "pid_file": "import tempfile; p = f'{tempfile.gettempdir()}/key-{os.getpid()}'; open(p, 'w').close(); seen = os.path.exists(p)",
    "pid_file_read": "import tempfile; p = f'{tempfile.gettempdir()}/key-{os.getpid()}'; open(p, 'w+').close(); seen = os.path.exists(p)",
    "pid": "import tempfile; d = f'{tempfile.gettempdir()}/key-{os.getpid()}'; os.mkdir(d); seen = os.path.isdir(d)",
}  # fmt: skip
START = {f"temporary_{name}": (source,) for name, source in TEMPORARY.items()} | {
    "input": ("seen = sys.stdin.readline()",),
    "input_by_name": ("seen = open('/dev/fd/0').read()",),
    "terminal": ("seen = sys.stdout.isatty()",),
    "argv0": ("seen = os.path.basename(sys.argv[0])",),
    "main file": ("seen = os.path.basename(getattr(sys.modules['__main__'], '__file__', ''))",),
    "orig_argv": ("seen = sys.orig_argv[1:]",),
    "arguments": ("seen = '--debug' in sys.argv",),
    "parser": ("import argparse; seen = argparse.ArgumentParser().prog",),
    "shm": (f"p = '{SHARED}'; seen = os.path.exists(p) and open(p).read()",),
}


@pytest.mark.parametrize("name", TEMPORARY)
def test_a_temporary_folder_is_made_by_each_process(image, askers, tmp_path, name):
    asker = Asker(image, askers / f"temporary_{name}")
    asker.env["TMPDIR"] = str(tmp_path)
    show = SHOW + (
        "; import os; p = vars(asks).get('d') or asks.p; p = getattr(p, 'name', getattr(p, 'value', p))"
        "; print(os.path.exists(p)); (os.rmdir if os.path.isdir(p) else os.remove)(p)"
        "; hasattr(asks, 'd') and hasattr(asks.d, '_finalizer') and asks.d._finalizer.detach()"
    )
    for turn in range(3):
        got = asker("-c", show)
        assert got.out == "True\nTrue\n", got.err
        if turn == 0:
            assert "'import asks' left " in why_not_made(got)
    assert restored(got)


@pytest.mark.parametrize("name", ["input", "input_by_name"])
@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_input_is_read_by_each_process(image, askers, tmp_path, name, kind):
    asker = Asker(image, askers / name)
    show = SHOW + "; import sys; print([sys.stdin.read()])"
    for turn, text in enumerate(["1\n2\n", "3\n4\n", "5\n"]):
        (tmp_path / "in").write_text(text)
        with open(tmp_path / "in") as file:
            cat = subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE)
            stdin = file if kind == "file" else cat.stdout
            if kind == "file":
                cat.wait()
                file.seek(0)
            got = asker("-c", show, stdin=stdin)
            cat.communicate()
        line = text[:2] if name == "input" else text
        rest = text[len(line) :] if name == "input" or kind == "pipe" else text
        assert got.out == f"{line}\n[{rest!r}]\n", (turn, got)
    assert restored(got)


def test_whether_a_stream_is_a_terminal_is_a_fact_if_asked(image, askers):
    asker = Asker(image, askers / "terminal")
    for _ in range(2):
        got = asker()
    assert restored(got) and got.out == "False\n", got.err
    argv = image.argv("-c", SHOW, preload=["import asks"], explain=False)
    for _ in range(2):
        _, shown = tty_session(argv, image.env(asker.env), image.cwd, [])
        assert shown.strip() == "True"
    assert restored(asker())


@pytest.mark.parametrize("name", ["argv0", "main file", "orig_argv", "arguments", "parser"])
def test_the_command_line_is_a_fact_if_asked(image, askers, name):
    asker, program = Asker(image, askers / name), askers / "prog/show.py"
    lines = [(program,), (askers / "prog/other.py",), (program, "--debug"), (program, "x")]
    for line in lines * 2:
        got = asker.must_be_stocks(*line)
    assert restored(got)
    if name not in ("arguments", "orig_argv"):
        assert restored(asker.must_be_stocks(program, "y"))
    plain = Asker(image, askers / "folder_comes")
    for line in lines[2:]:
        got = plain.must_be_stocks(*line)
    assert restored(got), "nobody asked"


def test_files_in_shared_memory_are_files(image, askers):
    path = SHARED
    asker = Asker(image, askers / "shm")
    try:
        for text in (None, "1", "2"):
            if text:
                with open(path, "w") as file:
                    file.write(text)
                time.sleep(RACY)
            for _ in range(2):
                got = asker.must_be_stocks()
            assert restored(got), got.err
    finally:
        if os.path.exists(path):
            os.remove(path)


def test_matplotlib_without_a_folder_of_its_own(image):
    if not has("matplotlib"):
        pytest.skip("no matplotlib")
    show = "import matplotlib, os; print(os.path.isdir(matplotlib.get_configdir()))"
    for _ in range(3):
        got = image("-c", show, preload=["import matplotlib"], env={"MPLCONFIGDIR": "/dev/null/x"})
        assert got.out == "True\n", got.err
    assert restored(got)
