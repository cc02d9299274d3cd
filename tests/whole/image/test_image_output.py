# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""What modules print while they are imported appears at every start, at its place in the stream: the image repeats it, or their entry is late."""

import os
import re
import subprocess
import time

import pytest
from conftest import Tree, tty_session
from imaged import RACY, Imaged

SPEAKERS = {
    "print": "print('from Python')\n",
    "no newline": "import sys\nsys.stdout.write('half a ')\nsys.stderr.write('half an error ')\n",
    "stderr": "import sys\nprint('one', file=sys.stderr)\nprint('two', file=sys.stderr)\n",
    "warning": "import warnings\nwarnings.warn('old API', FutureWarning)\n",
    "descriptor": "import os\nos.write(1, b'raw out\\n')\nos.write(2, b'raw err\\n')\nos.writev(1, [b'a', b'b\\n'])\n",
    "flushed": "print('first', flush=True)\nprint('second')\nimport os\nos.write(1, b'before second, in a pipe\\n')\n",
    "bytes": "import sys\nsys.stdout.write('text \\xe9\\n')\nsys.stdout.flush()\nsys.stdout.buffer.write(b'\\xff\\xfe\\n')\nsys.stdout.write('more\\n')\n",
    "both streams": "import sys\nfor i in range(20): print(i, file=(sys.stdout, sys.stderr)[i % 2], flush=True)\n",
    "much": "for i in range(900): print('a line', 'x' * (i % 50))\n",
    "fork": "import os\nif (pid := os.fork()) == 0:\n os.write(1, b'forked\\n')\n os._exit(0)\nos.waitpid(pid, 0)\n",
    "handler": "import logging\nlogging.basicConfig()\nlogging.warning('logged')\n",
    "captured": "import subprocess\nprint(subprocess.run(['echo', 'x'], stdin=0, stdout=-1, stderr=-3))\n",
    "quiet child": "import subprocess\nprint('before', flush=True)\nimport time\ntime.sleep(0.1)\nsubprocess.run(['true'])\nprint('after', flush=True)\n",
    "quiet child of a pipe": "import subprocess\nprint(subprocess.run(['echo', 'told'], stdout=-1))\nprint(subprocess.run(['true']))\n",
    "quiet shell": "import os\nr, w = os.pipe(); os.set_inheritable(w, True); os.system(f'echo told >&{w}'); os.close(w); print(open(r).read())\n",
    "quiet spawned": "import os\nos.waitpid(os.posix_spawn('/bin/true', ['true'], os.environ), 0)\n",
    "redirected": "import os, sys\nkept = os.dup(1)\nnull = os.open('/dev/null', os.O_WRONLY)\nos.dup2(null, 1)\nos.write(1, b'lost\\n')\nos.dup2(kept, 1)\nos.close(kept)\nos.close(null)\nprint('seen')\n",
}  # fmt: skip

# What passes by where the engine does not see it, or is another thing each time: imported late.
LATE = {
    "too much": ("for i in range(4000): print('x' * 50)\n", r"printed more than 64 KiB"),
    "C stdout": ("import ctypes\nc = ctypes.CDLL(None)\nc.puts(b'from C')\nc.printf(b'%s ', b'formatted')\n", "wrote to C's stdout"),
    "C flushed": ("import ctypes\nc = ctypes.CDLL(None)\nc.puts(b'from C')\nc.fflush(None)\n", "wrote to C's stdout"),
    "C stderr": ("import ctypes\nctypes.CDLL(None).psignal(2, b'from C')\n", "wrote to C's stderr"),
    "child": ("import subprocess\nsubprocess.run(['echo', 'from a child'])\n", "printed by a child process, as far as is known"),
    "child's error": ("import subprocess\nsubprocess.run(['sh', '-c', 'echo oops >&2'], stdout=-3)\n", "printed by a child process, as far as is known"),
    "system": ("import os\nos.system('echo from a shell')\n", "printed by a child process, as far as is known"),
    # What C's streams read nobody sees; it may be less than the child has written.
    "popen": ("import ctypes; c = ctypes.CDLL(None); c.popen.restype = ctypes.c_void_p; b = ctypes.create_string_buffer(99); f = ctypes.c_void_p(c.popen(b'echo told', b'r')); c.fgets(b, 99, f); c.pclose(f); seen = b.value", "printed by a child process, as far as is known"),
    "copy": ("import os\nfd = os.dup(1)\nos.write(fd, b'by a copy\\n')\nos.close(fd)\n", "wrote to a copy of standard output or error"),
    "number": ("import os\nprint('I am', os.getpid() != 0, os.getpid(), flush=True)\n", "printed its process number"),
    "number, not flushed": ("import os\nprint('I am', os.getpid())\nprint('still')\n", "printed its process number"),
    "time": ("import time\nprint(time.strftime('at %H:%M:%S'), flush=True)\n", "printed the time"),
    "seconds": ("import time\nprint(f'at {time.time():.3f}', flush=True)\n", "printed the time"),
}  # fmt: skip
CHANGING = ("number", "number, not flushed", "time", "seconds")

PROGRAM = "import speaker, sys\nprint('program')\nprint('its error', file=sys.stderr)\n"


class Speaker:
    """Starts of a program that imports a module that prints, preloaded or not."""

    def __init__(self, lab, folder, files, preload=("import speaker",), program=PROGRAM):
        self.image = Imaged(lab, folder / "image")
        self.lib = Tree(folder / "lib").write(files) if isinstance(files, dict) else files
        self.env = {"PYTHONPATH": str(self.lib)}
        self.preload, self.program = list(preload), program
        self.folder = folder
        if self.lib is not files:
            time.sleep(RACY)

    def argv(self, stock, *options, explain=True):
        if stock:
            return [self.image.python, *options, "-c", self.program]
        return self.image.argv(*options, "-c", self.program, preload=self.preload, explain=explain)

    def pipes(self, stock=False, *options, explain=True):
        argv = self.argv(stock, *options, explain=explain)
        env = self.image.env(self.env)
        done = subprocess.run(argv, env=env, cwd=self.image.cwd, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def one_pipe(self, stock=False):
        """Both streams in one, in which order counts; nothing of ours in it."""
        argv = self.argv(stock, explain=False)
        env = self.image.env(self.env)
        done = subprocess.run(argv, env=env, cwd=self.image.cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=60, check=False)  # fmt: skip
        return done.returncode, done.stdout

    def files(self, stock=False):
        argv = self.argv(stock, explain=False)
        paths = [self.folder / name for name in ("out", "err")]
        with open(paths[0], "wb") as out, open(paths[1], "wb") as err:
            code = subprocess.run(argv, env=self.image.env(self.env), cwd=self.image.cwd, stdout=out, stderr=err, stdin=subprocess.DEVNULL, timeout=60, check=False).returncode  # fmt: skip
        return code, *(path.read_bytes() for path in paths)

    def terminal(self, stock=False):
        argv = self.argv(stock, explain=False)
        return tty_session(argv, self.image.env(self.env), self.image.cwd, [])

    def until_restored(self, way):
        """Runs with --explain until one is restored; what was not equal to stock on the way fails."""
        expected = getattr(self, way)(stock=True)
        for _ in range(5):
            assert getattr(self, way)() == expected
            if self.image.images():
                break
        assert self.image.images(), self.pipes()[2].decode()
        for _ in range(2):
            assert getattr(self, way)() == expected
        return expected


def without_ours(err: bytes) -> bytes:
    return b"".join(x for x in err.splitlines(keepends=True) if not x.startswith(b"pylaunch: "))


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """A folder for each source; all are old enough when the first image is made."""
    folder = tmp_path_factory.mktemp("libraries")
    sources = [*SPEAKERS.values(), *(source for source, _ in LATE.values())]
    trees = {x: Tree(folder / str(i)).write({"speaker.py": x}) for i, x in enumerate(sources)}
    time.sleep(RACY)
    return trees


@pytest.fixture
def speaker(lab, tmp_path, libraries):
    lab.need_pylaunch()

    def make(source, **kwargs):
        return Speaker(lab, tmp_path, libraries.get(source, {"speaker.py": source}), **kwargs)

    return make


@pytest.mark.parametrize("name", SPEAKERS)
def test_what_a_module_printed_is_repeated(speaker, name):
    start = speaker(SPEAKERS[name])
    expected = start.pipes(stock=True)
    made, first, second = start.pipes(), start.pipes(), start.pipes()
    assert b"image: being made" in made[2], made[2].decode()
    for run in (made, first, second):
        assert (run[0], run[1], without_ours(run[2])) == expected, run[2].decode()
    for run in (first, second):
        assert b".img\n" in run[2] and b"imported late" not in run[2], run[2].decode()


@pytest.mark.parametrize("way", ["files", "terminal", "one_pipe"])
@pytest.mark.parametrize("name", ["print", "no newline", "warning", "flushed", "both streams", "quiet child", "child", "C flushed"])  # fmt: skip
def test_wherever_the_streams_lead(speaker, name, way):
    speaker(SPEAKERS.get(name) or LATE[name][0]).until_restored(way)


@pytest.mark.parametrize("name", LATE)
def test_what_cannot_be_repeated_is_imported_late(speaker, name):
    source, left = LATE[name]
    start = speaker(source)
    expected = start.pipes(stock=True)
    runs = [start.pipes() for _ in range(4)]
    assert re.search(f"'import speaker' {left}; from the next start on imported late", runs[0][2].decode()), runs[0][2].decode()  # fmt: skip
    assert b"image: being made" in runs[1][2], runs[1][2].decode()
    for run in runs:
        if name in CHANGING:
            assert len(run[1].splitlines()) == len(expected[1].splitlines())
        else:
            assert (run[0], run[1], without_ours(run[2])) == expected, run[2].decode()
    for run in runs[2:]:
        assert b".img\n" in run[2] and b"imported late" in run[2]
    if name in CHANGING:
        assert name == "time" or runs[2][1] != runs[3][1]


@pytest.mark.parametrize("name", ["print", "warning", "captured", "redirected", "child", "copy"])
def test_an_image_made_where_nobody_reads(speaker, name):
    """Who opens /dev/null for itself does not write to a stream that leads there, too."""
    start = speaker(SPEAKERS.get(name) or LATE[name][0])
    expected = start.pipes(stock=True)
    env = start.image.env(start.env)
    for _ in range(2):
        subprocess.run(start.argv(False), env=env, cwd=start.image.cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, check=True)  # fmt: skip
    for _ in range(2):
        run = start.pipes()
        assert b".img\n" in run[2], run[2].decode()
        assert (b"imported late" in run[2]) == (name in LATE), run[2].decode()
        assert (run[0], run[1], without_ours(run[2])) == expected


def test_an_image_made_on_a_terminal_is_not_for_a_pipe(speaker):
    """On a terminal Python writes line by line, into a pipe when it is full: raw output comes between."""
    start = speaker(SPEAKERS["flushed"])
    start.until_restored("terminal")
    expected = start.pipes(stock=True)
    other = start.pipes()
    assert b"none for this state" in other[2], other[2].decode()
    again = start.pipes()
    assert b".img\n" in again[2]
    for run in (other, again):
        assert (run[0], run[1], without_ours(run[2])) == expected
    assert start.terminal() == start.terminal(stock=True)


def test_what_names_the_working_directory_is_for_that_one(speaker, tmp_path):
    start = speaker("import os\nprint(os.getcwd())\n")
    for folder in (start.image.cwd, tmp_path):
        start.image.cwd = folder
        expected = start.pipes(stock=True)
        for _ in range(3):
            run = start.pipes()
            assert (run[0], run[1], without_ours(run[2])) == expected
        assert b".img\n" in run[2], run[2].decode()


def test_entries_that_print_keep_their_order(lab, tmp_path):
    """One of them can only be late, and it prints: then what prints behind it is late, too."""
    lab.need_pylaunch()
    files = {f"{x}.py": f"print({x!r}, flush=True)\n" for x in "abde"}
    files["c.py"] = "import os\nos.system('echo c')\n"
    files["d.py"] = "value = 1\n"
    start = Speaker(lab, tmp_path, files, [f"import {x}" for x in "abcde"], "import a, b, c, d, e\nprint('program')")  # fmt: skip
    expected = start.pipes(stock=True)
    runs = [start.pipes() for _ in range(4)]
    for run in runs:
        assert (run[0], run[1], without_ours(run[2])) == expected, run[2].decode()
    for run in runs[2:]:
        late = re.findall(r"imported late: .*'import (\w)'", run[2].decode())
        assert b".img\n" in run[2] and late == ["c", "e"], run[2].decode()


def test_image_build_prints_and_each_start_repeats(speaker):
    start = speaker(SPEAKERS["warning"] + SPEAKERS["print"])
    expected = start.pipes(stock=True)
    argv = start.argv(False)
    argv.insert(1, "--image-build")
    argv.remove("--image")
    built = subprocess.run(argv, env=start.image.env(start.env), cwd=start.image.cwd, capture_output=True, timeout=60, check=False)  # fmt: skip
    assert built.returncode == 0, built.stderr
    for _ in range(2):
        run = start.pipes()
        assert b".img\n" in run[2], run[2].decode()
        assert (run[0], run[1], without_ours(run[2])) == expected


@pytest.mark.parametrize("how", ["fast", "full"])
def test_at_either_exit(speaker, how):
    start = speaker(SPEAKERS["print"] + SPEAKERS["stderr"])
    expected = start.pipes(stock=True)
    for _ in range(3):
        run = start.pipes(False, "--exit", how)
        assert (run[0], run[1], without_ours(run[2])) == expected
    assert b".img\n" in run[2]


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams(speaker, closed):
    start = speaker("import sys\nprint('to stdout', flush=True)\nprint('to stderr', file=sys.stderr)\n")  # fmt: skip

    def run(stock):
        env = {**start.image.env(start.env), "PROGRAM": start.program}
        command = " ".join(start.argv(stock, explain=False)[:-1]).replace("import speaker", "'import speaker'")  # fmt: skip
        shell = f'exec 3>&1; {command} "$PROGRAM" {closed}; echo code $? >&3'
        done = subprocess.run(["bash", "-c", shell], env=env, cwd=start.image.cwd, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)  # fmt: skip
        return done.stdout, done.stderr

    expected = run(True)
    for _ in range(3):
        assert run(False) == expected
    assert start.image.images()


@pytest.mark.parametrize("stream", ["full", "broken pipe"])
def test_a_stream_that_takes_nothing_any_more(speaker, stream):
    """The module cannot be imported then, and a restored process does not pretend that it was."""
    start = speaker("print('to stdout', flush=True)\n")
    for _ in range(2):
        made = start.pipes()
    assert b".img\n" in made[2]
    if stream == "full":
        fd = os.open("/dev/full", os.O_WRONLY)
    else:
        end, fd = os.pipe()
        os.close(end)

    def run(*more):
        argv = [x for x in start.argv(False, *more, explain=False) if x != "--image" or not more]
        done = subprocess.run(argv, env=start.image.env(start.env), cwd=start.image.cwd, stdout=fd, stderr=subprocess.PIPE, timeout=60, check=False)  # fmt: skip
        return done.returncode, done.stderr.decode()

    without_image = run("--exit", "fast")
    assert without_image[0] == 1 and "speaker" in without_image[1]
    assert run() == without_image
    os.close(fd)


def test_site_prints_at_every_start_too(lab, tmp_path):
    lab.need_pylaunch()
    start = Speaker(lab, tmp_path, {"sitecustomize.py": "import sys\nprint('site', file=sys.stderr)\n", "quiet.py": ""}, ["import quiet"], "print('program')")  # fmt: skip
    expected = start.pipes(stock=True)
    for _ in range(3):
        run = start.pipes()
        assert (run[0], run[1], without_ours(run[2])) == expected, run[2].decode()
    assert b".img\n" in run[2]


def test_a_silent_module_s_image_is_for_terminals_and_pipes(speaker):
    """Whether there is a terminal counts only where something was printed."""
    start = speaker("value = 1\n")
    start.pipes()
    assert start.image.images()
    assert len(start.image.images()) == 1
    start.terminal()
    start.pipes()
    assert len(start.image.images()) == 1


def test_nothing_is_left_in_the_process(speaker):
    """No memory is shared with other processes of the image, no descriptor is open."""
    program = "import os, re\nprint(sorted(os.listdir('/proc/self/fd'))[:-1])\nprint([x for x in open('/proc/self/maps') if ' rw-s ' in x])"
    start = speaker("import os\nos.write(2, b'x\\n')\n", program="import speaker\n" + program)
    expected = start.pipes(stock=True)
    for _ in range(3):
        run = start.pipes(explain=True)
        assert run[1] == expected[1]
    assert b".img\n" in run[2]
