# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""A program started from an image does what stock does, and only while everything the image was made of is as it was."""

import itertools
import json
import os
import re
import shutil
import sqlite3
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
from conftest import Tree, serial, tty_session
from imaged import PRELOADS, PYTHON, RACY, SLEEPER, Imaged, has, reason, restored, why_not_made

RESTORES = int(os.environ.get("PYLAUNCH_TEST_RESTORES", "60"))


@pytest.fixture(scope="module", params=PRELOADS)
def real(request, lab, tmp_path_factory):
    """An image of each of the real packages, shared by the tests that only restore."""
    lab.need_pylaunch()
    preload = PRELOADS[request.param]
    if preload and not has(request.param):
        pytest.skip(f"{PYTHON} has no {request.param}")
    image = Imaged(lab, tmp_path_factory.mktemp(request.param) / "image")
    image.preload, image.name = preload, request.param
    image.make("-c", "pass", preload=preload)
    return image


# ---------------------------------------------------------------------------------------------- the same program

WORK = """
import asyncio, concurrent.futures, ctypes, json, os, signal, socket, sqlite3, subprocess, sys, threading, time
def part(name, value): print(name, value)
threads = [threading.Thread(target=lambda: sum(range(10**5))) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
part("threads", threading.active_count())
with concurrent.futures.ThreadPoolExecutor(4) as pool: part("pool", list(pool.map(lambda x: x * x, range(5))))
part("child", subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True).stdout)
pid = os.fork()
if pid == 0: os._exit(7)
part("fork", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
async def nap(): await asyncio.sleep(0.01); return "awake"
part("asyncio", asyncio.run(nap()))
got = []; signal.signal(signal.SIGUSR1, lambda *a: got.append(a[0])); os.kill(os.getpid(), signal.SIGUSR1)
part("signal", got); part("sigint", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
part("ctypes", ctypes.CDLL(None).abs(-3)); part("native", threading.main_thread().native_id == os.getpid())
a, b = socket.socketpair(); a.send(b"x"); part("socket", b.recv(1))
part("sqlite", sqlite3.connect(":memory:").execute("select 6 * 7").fetchone())
def deep(n): return n and 1 + deep(n - 1)
part("deep", deep(900))
part("stdout", (sys.stdout.name, sys.stdout.encoding, sys.stdout.line_buffering, sys.stdout.isatty(), sys.stdout.mode))
part("argv", sys.argv); part("environ", sorted(os.environ) == sorted(os.environ.keys()) and os.environ["TERM"])
part("home", os.environb[b"HOME"].decode() == os.getenv("HOME")); part("cwd", os.getcwd() == os.environ.get("WHERE", os.getcwd()))
part("main", (__name__, sorted(k for k in globals() if k.startswith("__"))))
class Loud:
    def __del__(self): print("gone")
kept = Loud()
"""

REAL = {
    "plain": "",
    "numpy": "import numpy as np; a = np.arange(250000.).reshape(500, 500); print(float((a @ a.T).sum()), np.linalg.norm(a))",
    "torch": "import torch; torch.manual_seed(0); m = torch.nn.Linear(64, 8); x = torch.rand(256, 64); loss = m(x).pow(2).sum(); loss.backward();"
    " print(loss.item(), m.weight.grad.sum().item(), torch.get_num_threads())\n"
    "d = torch.utils.data.DataLoader(list(range(8)), batch_size=2, num_workers=2)\n"
    "print([b.tolist() for b in d])",
    "transformers": "import torch; from transformers import BertConfig, BertForSequenceClassification\ntorch.manual_seed(0)\n"
    "c = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=100)\n"
    "m = BertForSequenceClassification(c); i = torch.arange(40).reshape(2, 20)\n"
    "loss = m(i, labels=torch.tensor([0, 1])).loss; loss.backward(); print(loss.item())",
}  # fmt: skip


def test_restored_program_does_what_stock_does(real):
    program = WORK + REAL[real.name]
    expected = real.stock("-c", program, "a", "b")
    got = real("-c", program, "a", "b", preload=real.preload)
    assert restored(got), got.err
    assert got.out == expected.out
    assert got.code == expected.code == 0, got.err
    assert got.without_pylaunch_lines().err == expected.err


DRAWS = """
import os, random, secrets, sys, tempfile, uuid
print(random.random(), secrets.token_hex(), uuid.uuid4(), tempfile.mktemp(), os.urandom(4).hex())
import multiprocessing, ssl
print(bytes(multiprocessing.current_process().authkey).hex(), ssl.RAND_bytes(8).hex())
if "numpy" in sys.modules: import numpy.random; print(numpy.random.rand(), numpy.random.default_rng().random())
if "torch" in sys.modules: import torch; print(torch.rand(1).item(), torch.initial_seed())
"""


def test_no_two_restores_draw_the_same_numbers(real):
    runs = [real("-c", DRAWS, preload=real.preload) for _ in range(3)]
    assert all(restored(run) for run in runs)
    drawn = [word for run in runs for word in run.out.split()]
    assert len(drawn) == len(set(drawn)) > 15


def test_sqlite_draws_other_numbers_in_each_process(image, tmp_path):
    """Whose database is in memory, so that no file tells SQLite of another process."""
    lib = Tree(tmp_path / "lib").write({"drawn.py": SQLITE})
    time.sleep(RACY)
    show = "import drawn; print(*drawn.draw())"
    runs = [
        image("-c", show, preload=["call drawn:draw"], env={"PYTHONPATH": str(lib)})
        for _ in range(3)
    ]
    assert [restored(run) for run in runs] == [False, True, True], runs
    drawn = [word for run in runs for word in run.out.split()]
    assert len(drawn) == len(set(drawn)) == 3, drawn


SQLITE = """
import sqlite3
CONNECTION = sqlite3.connect(":memory:")
def draw(): return CONNECTION.execute("select random()").fetchone()
"""


def test_log_records_count_from_the_process_s_start(image):
    show = "import logging; print(logging.makeLogRecord({}).relativeCreated)"
    image.make("-c", "pass", preload=["import logging"])
    time.sleep(2)
    got = image("-c", show, preload=["import logging"])
    assert restored(got) and 0 <= float(got.out) < 2000


def test_many_restores_in_a_row(real):
    """Every one draws another layout (ASLR) for its own stack and vdso."""
    argv = real.argv(
        "-c", "import sys; print(len(sys.modules) > 20)", preload=real.preload, explain=False
    )
    env = real.env()
    for i in range(RESTORES):
        done = subprocess.run(argv, env=env, cwd=real.cwd, capture_output=True, timeout=120)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"True\n", b""), i
    assert restored(real("-c", "pass", preload=real.preload))


@pytest.mark.parametrize(
    "args",
    [
        ["-V"],
        ["-c"],
        ["-c", "import sys; sys.exit(3)"],
        ["-c", "raise KeyError"],
        ["-m", "this.is.not"],
    ],
    ids=str,
)
def test_endings_are_stocks(image, args):
    image.make(args[0] if args[0] == "-m" else "-c", "platform" if args[0] == "-m" else "pass")
    expected, got = image.stock(*args), image(*args)
    assert restored(got) or args == ["-V"], got.err
    got = got.without_pylaunch_lines()
    names = f"{image.lab.pylaunch}|{Path(PYTHON).parent}/pylaunch"  # sys.executable may be ours.
    assert (got.code, got.out, re.sub(names, PYTHON, got.err)) == (
        expected.code,
        expected.out,
        expected.err,
    )


@serial
def test_streams_are_the_new_process_s(image, tmp_path):
    show = "import sys; print(sys.stdout.isatty(), sys.stdout.line_buffering, sys.stdin.read() if not sys.stdin.isatty() else '')"
    image.make("-c", show)
    expected = image.stock("-c", show, stdin=subprocess.DEVNULL)
    assert image("-c", show, stdin=subprocess.DEVNULL).out == expected.out
    with open(tmp_path / "text", "w+") as text:
        text.write("from a file")
        text.seek(0)
        got = image("-c", show, stdin=text)
    assert restored(got) and got.out == "False False from a file\n"
    code, shown = tty_session(image.argv("-c", show, explain=False), image.env(), image.cwd, [])
    assert (code, shown.strip()) == (0, "True True")


@pytest.mark.every_python
@pytest.mark.parametrize("preload", [[], ["import json"]], ids=str)
def test_all_programs_of_a_folder_start_from_one_image(image, tmp_path, preload):
    files = {
        "one.py": "import sys\nprint(__file__, sys.argv, sys.path[0])\n",
        "two.py": "print('two', __name__)\n",
    }
    tree = Tree(tmp_path / "tree").write(files)
    one = tree / "one.py"
    time.sleep(RACY)
    image.make(one, "x", preload=preload)
    for name in files:
        expected, got = image.stock(tree / name, "y"), image(tree / name, "y", preload=preload)
        assert restored(got) and got.out == expected.out, got.err
    one.write_text("print('edited', __file__)\n")
    got = image(one, preload=preload)
    assert restored(got) and got.out == f"edited {one}\n", got.err
    # Whether a file is a program or a zip file, its name does not say.
    with zipfile.ZipFile(one, "w") as archive:
        archive.writestr("__main__.py", "import sys; print('zipped', sys.path[0])")
    assert image(one, preload=preload).out == f"zipped {one}\n"


def test_environment_is_the_new_process_s(image):
    show = "import os; print(os.environ.get('SHLVL'), os.getenv('SHLVL'), 'PYLAUNCH_HANDOFF' in os.environ, 'LD_PRELOAD' in os.environ)\nprint(open('/proc/self/environ').read().count('HANDOFF'))"
    image.make("-c", show, env={"SHLVL": "1"})
    got = image("-c", show, env={"SHLVL": "22222222"})
    assert restored(got) and got.out == "22222222 22222222 False False\n0\n", got.err


def test_what_preloading_set_in_the_environment_stays(image, tmp_path):
    lib = Tree(tmp_path / "lib").write(
        {"setter.py": "import os\nos.environ['SET_BY_SETTER'] = 'yes'\ndel os.environ['TAKEN']\n"}
    )
    env = {"PYTHONPATH": str(lib), "TAKEN": "x"}
    time.sleep(RACY)
    show = "import os; print(os.environ.get('SET_BY_SETTER'), os.getenv('SET_BY_SETTER'), os.environ.get('TAKEN'))"
    image.make("-c", show, preload=["import setter"], env=env)
    got = image("-c", show, preload=["import setter"], env=env)
    assert restored(got) and got.out == "yes yes None\n", got.err


# What preloading made of the process, and how a program sees it.
KEPT = {
    "detached": ("import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding='utf-8')\nprint('early')\n",
                 "print('\u00e9', sys.stdout.encoding, sys.stdout.line_buffering); sys.stdout.flush(); os.write(1, b'raw\\n')"),
    "detached twice": ("import sys\nraw = sys.stdout.buffer.detach()\nsys.stdout = sys.stderr\n", "print(library.raw.write(b'raw\\n'))"),
    "rewrapped": ("import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='latin-1', newline='\\r\\n')\n",
                  "print('\u00e9', sys.stdout.encoding); sys.stdout.flush(); sys.__stdout__.write('old\\n')"),
    "writer": ("import codecs, sys\nsys.stdout = codecs.getwriter('utf-8')(sys.stdout.detach())\n", "print('\u00e9')"),
    "opened again": ("import sys\nsys.stdout = open(sys.stdout.fileno(), 'w', encoding='utf-8', buffering=1)\nprint('early', end='')\n", "print('\u00e9')"),
    "strings": ("import io, sys\nsys.__stdout__ = io.StringIO()\n", "print('shown')"),
    "no stream": ("import sys\ndel sys.__stdout__, sys.__stdin__\n", "print('shown', sys.stdin.read())"),
    "frozen": ("import gc\ngc.freeze()\n", "print(sys.stdin.read())"),
    "own class": ("import sys\nclass Tee:\n def write(self, text): return sys.__stdout__.write('tee ' + text)\n def flush(self): sys.__stdout__.flush()\nsys.stdout = Tee()\n",
                  "print('shown')"),
    "lines": ("import sys\nsys.stdout.reconfigure(line_buffering=True)\n", "print('A'); os.write(1, b'B\\n'); print(sys.stdout.line_buffering)"),
    "no lines": ("import sys\nsys.stderr.reconfigure(line_buffering=False)\n", "sys.stderr.write('A\\n'); os.write(2, b'B\\n')"),
    "newline": ("import sys\nsys.stdout.reconfigure(newline='\\r\\n', encoding='utf-16')\n", "print('shown')"),
    "read newlines": ("import sys\nsys.stdin.reconfigure(newline=None)\n", "print(sys.stdin.readlines())"),
    "closed stdin": ("import sys\nsys.stdin.close()\n", "print(sys.stdin.closed)"),
    "blocked signal": ("import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n",
                       "os.kill(os.getpid(), signal.SIGUSR1); print('alive', signal.pthread_sigmask(signal.SIG_BLOCK, []))"),
    "ignored signal": ("import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n", "os.kill(os.getpid(), signal.SIGHUP); print(signal.getsignal(signal.SIGHUP))"),
    "reset signal": ("import signal\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)\n", "print(signal.getsignal(signal.SIGHUP)); sys.stdout.flush(); os.kill(os.getpid(), signal.SIGHUP); print('survived')"),
    "trace": ("import sys\nseen = []\ndef trace(frame, event, arg): seen.append((frame.f_code.co_filename, frame.f_code.co_name))\nsys.settrace(trace)\n",
              "print(sys.gettrace() is library.trace, [x for x in library.seen if 'resume' in x[0] or 'hooks' in x[0]])"),
    "profile": ("import sys\nseen = []\ndef profile(frame, event, arg): seen.append((frame.f_code.co_filename, event))\nsys.setprofile(profile)\n",
                "f = lambda: None; f(); sys.setprofile(None); print(library.seen[-2:], [x for x in library.seen if 'resume' in x[0]])"),
    "deep": ("", "import functools, resource\nresource.setrlimit(resource.RLIMIT_STACK, (2**30, resource.RLIM_INFINITY)); sys.setrecursionlimit(10**6)\n"
             "@functools.lru_cache(None)\ndef f(n): return n and 1 + f(n - 1)\ntry: print(f(300_000))\nexcept RecursionError: print('a limit of its own')"),
    "processor": ("import ctypes\nasked = ctypes.CDLL(None).syscall(158, 0x1023, ctypes.c_ulong(18))\n",  # AMX's tiles.
                  "import ctypes; mask = ctypes.c_ulong(); ctypes.CDLL(None).syscall(158, 0x1022, ctypes.byref(mask)); print(library.asked, mask.value)"),
}  # fmt: skip
KEPT_WITH = {
    "blocked signal": f"exec {PYTHON} -c 'import os, signal, sys; signal.pthread_sigmask(0, [12]); os.execv(sys.argv[1], sys.argv[1:])' \"$@\"",
    "reset signal": "trap '' HUP; exec \"$@\"",
}


@pytest.mark.parametrize("name", KEPT)
def test_what_preloading_made_of_the_process_stays(image, tmp_path, name):
    source, program = KEPT[name]
    lib = Tree(tmp_path / "lib").write({"library.py": source})
    time.sleep(RACY)
    args = ("-c", "import library, os, signal, sys\n" + program)
    env = {"PYTHONPATH": str(lib)}
    wrap = ["bash", "-c", KEPT_WITH.get(name, 'exec "$@"'), "-"]
    (tmp_path / "in").write_bytes(b"one\rtwo\r\nthree\n")

    def run(start, out, **kwargs) -> tuple:
        with open(tmp_path / "in") as stdin, open(tmp_path / out, "w+b") as stdout:
            result = start(*args, env=env, wrap=wrap, stdin=stdin, stdout=stdout, **kwargs)
            stdout.seek(0)
            return result, stdout.read().replace(b"early\n", b"").replace(b"early", b"")

    expected, expected_out = run(image.stock, "stock")
    assert "Error" not in expected.err
    for told in ("image: being made", "image: /"):
        got, out = run(image, "ours", preload=["import library"])
        assert told in got.err and "resumed" not in got.err, got.err
        assert out == expected_out
        assert got.code == expected.code
        assert got.without_pylaunch_lines().err == expected.err


BREAKS_IF_TOLD = """
import os, threading
main_thread = threading.main_thread
def broken():
    if "BREAK" in os.environ: raise TypeError("told to")
    return main_thread()
threading.main_thread = broken
"""

UNRESTORABLE = {
    "a hook fails": (
        "threading.main_thread = None",
        "TypeError(\"'NoneType' object is not callable\")",
    ),
    "it crashes": (
        "os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), 11))",
        "it dies of Segmentation fault",
    ),
    "it ends": (
        "os.register_at_fork(after_in_child=lambda: os._exit(0))",
        "it ends with exit code 0",
    ),
}


@pytest.mark.parametrize(
    "what, wrap",
    [(x, []) for x in UNRESTORABLE] + [("it crashes", ["env", "--ignore-signal=CHLD"])],
)
def test_an_image_that_no_process_can_be_restored_from_is_not_kept(image, tmp_path, what, wrap):
    """It is tried before anybody relies on it, and not made again at every start."""
    line, why = UNRESTORABLE[what]
    lib = Tree(tmp_path / "lib").write({"library.py": f"import os, threading\n{line}\n"})
    time.sleep(RACY)
    run = {"preload": ["import library"], "env": {"PYTHONPATH": str(lib)}, "wrap": wrap}
    program = "print('ran')"
    assert "image: being made" in image("-c", program, **run).err
    (note,) = image.images("*.note")
    assert note.read_text() == f"no process can be restored from it: {why}"
    assert not [x for x in image.images("*") if x != note]
    got = image("-c", program, **run)
    assert reason(got) == f"none: {note.read_text()}; tried again an hour after that"
    assert got.out == "ran\n" and "being made" not in got.err
    (lib / "library.py").write_text("import os\n")
    os.utime(lib / "library.py", (time.time() - 100,) * 2)
    os.utime(note, (time.time() - 3700,) * 2)
    time.sleep(RACY)
    image.make("-c", program, **run)
    assert restored(image("-c", program, **run))


def test_images_that_are_never_used_are_not_made_for_ever(image, tmp_path):
    """What a preload reads may be another thing at each start."""
    lib = Tree(tmp_path / "lib").write({"library.py": "import os\nRUN = os.environ.get('RUN')\n"})
    time.sleep(RACY)

    def run(number):
        env = {"PYTHONPATH": str(lib), "RUN": str(number)}
        return image(
            "-c", "import library; print(library.RUN)", preload=["import library"], env=env
        )

    for number in range(4):
        assert "image: being made" in run(number).err
    for number in (4, 5):
        got = run(number)
        assert got.out == f"{number}\n" and "being made" not in got.err
        assert reason(got).endswith(
            "; no more are made today: 4 were made and never used; --stats tells in what they differ"
        )
    assert len(image.images()) == 4
    assert restored(run(2))
    for number in (6, 7):  # One is used, so another may be made.
        assert "image: being made" in run(number).err
        assert restored(run(number))
    for path in image.images("*.key"):
        mtime = path.with_suffix(".img").stat().st_mtime_ns
        os.utime(path, ns=(mtime, mtime))
    assert "being made" not in run(8).err
    argv = image.argv("-c", "pass", preload=["import library"])
    argv.insert(1, "--image-build")
    env = image.env({"PYTHONPATH": str(lib), "RUN": "9"})
    subprocess.run(argv, env=env, cwd=image.cwd, check=True, capture_output=True)
    assert restored(run(9))


def test_a_start_that_cannot_be_resumed_takes_the_archive_path(image, tmp_path):
    """Nothing of the program has run. Standard input that is a folder is start-up's to refuse."""
    lib = Tree(tmp_path / "lib").write({"library.py": BREAKS_IF_TOLD})
    time.sleep(RACY)
    env = {"PYTHONPATH": str(lib), "MARK": "kept"}
    program = "import library, os, signal, sys; print(sys.argv, os.environ['MARK'], sorted(os.listdir('/proc/self/fd')), signal.pthread_sigmask(0, []), [signal.getsignal(x) for x in (1, 2, 13)])\nprint([x for x in os.environ if 'PYLAUNCH_H' in x or 'PRELOAD' in x])"
    expected = image.stock("-c", program, "a", env=env)
    image.make("-c", program, "a", preload=["import library"], env=env)
    for _ in range(2):
        got = image("-c", program, "a", preload=["import library"], env={**env, "BREAK": "1"})
        assert restored(got) and "image: cannot be resumed: TypeError" in got.err, got.err
        assert got.without_pylaunch_lines() == expected
    image.make("-c", "pass")
    folder = os.open(tmp_path, os.O_RDONLY)
    expected = image.stock("-c", "pass", stdin=folder)
    got = image("-c", "pass", stdin=folder)
    os.close(folder)
    assert "IsADirectoryError" in got.err and got.code == expected.code == 1
    assert expected.err.splitlines()[0] in got.err.splitlines()


@pytest.mark.parametrize("preload", ["import json", "import broken"])
def test_an_engine_in_a_folder_with_a_blank_leaves_no_descriptor(image, tmp_path, preload):
    """The dynamic loader gets it by a descriptor; restored or not, it is closed."""
    build = image.lab.pylaunch.parent
    if not (build / "pylaunch-restore").exists():
        pytest.skip("not a build folder")
    folder = tmp_path / "a folder"
    folder.mkdir()
    names = ("pylaunch", "pylaunch-restore", "pylaunch-sealer", "resume", "doctor")
    for path in (*map(build.joinpath, names), *build.glob("engine-*.so")):
        (shutil.copytree if path.is_dir() else shutil.copy2)(path, folder / path.name)
    lib = Tree(tmp_path / "lib").write({"broken.py": BREAKS_IF_TOLD})
    time.sleep(RACY)
    program = "import os; print(sorted(os.listdir('/proc/self/fd')), os.environ.get('LD_PRELOAD'))"
    env = {"PYTHONPATH": str(lib)}
    expected = image.stock("-c", program, env=env)
    argv = [str(folder / "pylaunch"), *image.argv("-c", program, preload=[preload])[1:]]
    for told, more in (("image: being made", {}), ("image: /", {"BREAK": "1"})):
        whole = image.env({**env, **more})
        got = subprocess.run(argv, env=whole, cwd=image.cwd, capture_output=True, text=True)
        assert told in got.stderr and got.stdout == expected.out, got.stderr
        assert ("resumed" in got.stderr) == (preload == "import broken" and told == "image: /")


def test_streams_that_cannot_be_renewed_are_told(image, tmp_path):
    hook = "import sys\ndef hook(event, args):\n if event == 'open' and args[0] == 1: raise RuntimeError('not here')\nsys.addaudithook(hook)\n"
    lib = Tree(tmp_path / "lib").write({"library.py": hook})
    time.sleep(RACY)
    env = {"PYTHONPATH": str(lib)}
    for _ in range(2):
        got = image("-c", "print('ran')", preload=["import library"], env=env)
        assert (got.code, got.out) == (0, "ran\n")
    assert reason(got).startswith("none: ") and "RuntimeError('not here')" in reason(got)


ENDINGS = {
    "file": "f = open('out', 'w'); f.write('kept')",
    "filter": "import logging; f = open('out', 'w'); f.write('kept')\ndef g(r): return f\nlogging.getLogger().addFilter(g)",
    "del": "class A:\n def __del__(self): print('del')\na = A()",
    "del_in_preloaded": "class A:\n def __del__(self): print('del')\nlibrary.mine = A()",
    "generator": "def g():\n try: yield\n finally: print('finally')\nx = g(); next(x)",
    "finalize": "import weakref\nclass B: pass\nb = B(); weakref.finalize(b, print, 'done')",
    "callback": "import weakref\nclass B: pass\nb = B(); w = weakref.ref(b, lambda r: print('called'))",
    "atexit": "import atexit; atexit.register(lambda: print(library.__name__))",
    "thawed": "import gc\nclass D:\n def __init__(self, n): self.n = n\n def __del__(self): print(self.n)\n"
    "d = D('d'); d.d = d; gc.freeze(); gc.collect(); e = D('e'); gc.unfreeze(); f = open('out', 'w'); f.write('x')",
    "thread": "import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('joined'))).start()",
    "daemon": "import threading, time; threading.Thread(target=lambda: time.sleep(100), daemon=True).start()",
    "stdout": "import sys; sys.stdout.write('no newline')",
    "code": "import sys; print('x'); sys.exit(5)",
}


@pytest.mark.parametrize("library", ["json", "numpy"])
def test_ends_of_programs_are_stocks(image, library):
    if not has(library):
        pytest.skip(f"{PYTHON} has no {library}")
    preload = [f"import {library}, logging"]
    image.make("-c", "pass", preload=preload)
    endings = dict(ENDINGS)
    if library == "numpy":
        endings["array"] = "a = library.ones(3)"
    wrong = {}
    for name, program in endings.items():
        seen = []
        for run in (
            lambda p: image.stock("-c", p),
            lambda p: image("-c", p, preload=preload),
        ):
            (image.cwd / "out").unlink(missing_ok=True)
            result = run(f"import {library} as library, logging\n{program}")
            result = result.without_pylaunch_lines()
            file = image.cwd / "out"
            seen.append((result, file.read_text() if file.exists() else None))
        if seen[0] != seen[1]:
            wrong[name] = seen
    assert not wrong


COLLECTIONS = """
import ctypes, gc, json, sys, threading, weakref
class Node: pass
def cycle():
    a, b = Node(), Node()
    a.other, b.other, a.preloaded = b, a, json
    return weakref.ref(a)
def whole(thing):  # Every link of the collector's list that it is in leads back, and nothing in it is marked.
    word = lambda at: ctypes.c_size_t.from_address(at).value
    first = at = id(thing) - 16
    while True:
        following = word(at)
        if word(following + 8) & ~3 != at or word(at + 8) & 2: return False
        at = following
        if at == first: return True
references, switch = [], sys.getswitchinterval()
sys.setswitchinterval(1e-5)
def churn():
    for i in range(60):
        references.extend(cycle() for _ in range(20))
        json.kept = [Node()]; json.kept[0].kept = json.kept  # Garbage through a preloaded module's names.
        references.append(weakref.ref(json.kept[0]))
        class Short: decoder = json.decoder
        gc.collect(i % 3)
threads = [threading.Thread(target=churn) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
sys.setswitchinterval(switch)
gc.collect(); print("alive", sum(r() is not None for r in references), len(references))
mine = [Node() for _ in range(10**5)]; del mine[:]
gc.freeze(); print("frozen", gc.get_freeze_count() > 0)
references = [cycle() for _ in range(100)]; gc.collect(); print("alive", sum(r() is not None for r in references))
gc.unfreeze(); gc.collect(); print("frozen", gc.get_freeze_count(), gc.isenabled(), gc.get_threshold())
seen = []; gc.callbacks.append(lambda phase, info: seen.append((phase, info["generation"], info["collected"] > 0)))
cycle(); gc.collect(); gc.callbacks.clear(); print("callbacks", seen)
gc.set_debug(gc.DEBUG_SAVEALL); cycle(); gc.collect(); gc.set_debug(0)
print("saved", sum(type(x) is Node for x in gc.garbage)); gc.garbage.clear(); gc.collect()
print("stats", [sorted(s) for s in gc.get_stats()], [s["uncollectable"] for s in gc.get_stats()])
print("tracked", gc.is_tracked(json.__dict__), gc.is_tracked(references), json.__dict__ in gc.get_referents(json))
gc.disable(); print("whole", whole(references), whole(json.__dict__), whole(sys.modules)); gc.enable()
del json.decoder.JSONDecoder, json.encoder.JSONEncoder  # Preloaded objects die, too.
gc.collect(); print("whole", whole(json.__dict__))
print(any(x is json.__dict__ for x in gc.get_objects()))
"""


def test_collector_is_content_with_what_it_does_not_see(image):
    image.make("-c", "pass", preload=["import json"])
    expected = image.stock("-c", COLLECTIONS)
    got = image("-c", COLLECTIONS, preload=["import json"])
    assert restored(got) and got.code == 0, got.err
    assert "False" not in expected.out.partition("whole")[2]
    assert got.out.splitlines()[:-1] == expected.out.splitlines()[:-1]
    assert (expected.out.split()[-1], got.out.split()[-1]) == ("True", "False")  # Hidden, indeed.


@pytest.mark.parametrize("term", ["dumb", "xterm"])  # From 3.13 on, two different prompts.
@pytest.mark.parametrize("options", [[], ["-i", "-c", "x = 6"]], ids=str)
def test_interactive_prompt(image, options, term):
    env = image.env({"TERM": term})
    script = [(">>> ", "x = 6\r"), (">>> ", "print('=%d=' % (x * 7))\r"), ("=42=", "exit(3)\r")]
    expected, _ = tty_session([PYTHON, *options], env, image.cwd, script)  # 1 under 3.13.0.
    for told in ("image: being made", "explain: image: /"):
        code, shown = tty_session(image.argv(*options), env, image.cwd, script)
        assert told in shown, shown
        assert code == expected and "Traceback" not in shown, shown


# ---------------------------------------------------------------------------------------------- never stale


@pytest.fixture
def stale(image, tmp_path):
    """An image with a module of the test's own, and a way to run it again."""
    image.lib = Tree(tmp_path / "lib").write(
        {"mine.py": "x = 1\n", "pack/__init__.py": "", "data.txt": ""}
    )
    image.extra = {"PYTHONPATH": str(image.lib)}

    def again(*options, env=None, preload=("import mine",), **kwargs):
        return image(
            *options,
            "-c",
            "import mine; print(mine.x, mine.__file__)",
            preload=preload,
            env={**image.extra, **(env or {})},
            **kwargs,
        )

    time.sleep(RACY)
    made = again()
    assert "image: being made" in made.err and image.images(), made.err
    assert restored(again())
    image.again = again
    return image


def test_edited_module(stale):
    (stale.lib / "mine.py").write_text("x = 2\n")
    got = stale.again()
    assert reason(got).endswith("mine.py changed") and got.out.startswith("2 ")


def test_module_replaced_with_the_same_times_and_size(stale):
    path = stale.lib / "mine.py"
    before = path.stat()
    path.write_text("x = 3\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not restored(stale.again())  # What stock then takes for fresh is its own affair.


def test_new_shadowing_file(stale):
    (stale.cwd / "mine.py").write_text("x = 4\n")
    got = stale.again()
    assert "names in" in reason(got) and got.out.startswith("4 ")


def test_sealed_trusts_what_it_has_and_makes_none(stale):
    (stale.lib / "mine.py").write_text("x = 2\n")
    sealed = {"env": {"PYLAUNCH_CACHE_MODE": "sealed"}}
    got = stale.again(**sealed)
    assert restored(got) and got.out.startswith("1 ")
    # Facts are no stats.
    assert reason(stale.again(env={**sealed["env"], "LC_NEW": "1"})).endswith("LC_NEW is new")
    assert len(stale.images()) == 1
    got = stale.again()
    assert reason(got).endswith("mine.py changed") and got.out.startswith("2 ")


def test_results_written_beside_the_program_do_not_matter(stale):
    for name in ("result.json", "train-output", "log"):
        (stale.cwd / name).write_text("")
    assert restored(stale.again())


def test_new_package_folder(stale):
    (stale.cwd / "mine").mkdir()
    (stale.cwd / "mine/__init__.py").write_text("x = 5\n")
    assert stale.again().out.startswith("5 ")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"env": {"PYTHONUTF8": "1"}}, "variable PYTHONUTF8 is new"),
        ({"preload": ["import mine, json"]}, "none yet"),
        ({"options": ["-O"]}, "none yet"),
        ({"wrap": ["bash", "-c", 'ulimit -S -s 4096; exec "$@"', "-"]}, "stack limit changed"),
        ({"wrap": ["bash", "-c", 'exec "$@" <&-', "-"]}, "open standard streams changed"),
        ({"wrap": ["setarch", "-R"]}, "addresses are not randomised"),
        ({"wrap": ["bash", "-c", 'umask 77; exec "$@"', "-"]}, "umask changed"),
    ],
    ids=str,
)  # fmt: skip
def test_another_situation_is_another_image(stale, change, why):
    change = dict(change)
    got = stale.again(*change.pop("options", []), **change)
    assert got.out.startswith("1 "), got.err
    assert reason(got).endswith(why)
    assert restored(stale.again())  # The old one is not lost.


def _flip(path: Path, at: int) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize(
    "where",
    [
        "header",
        "pieces",
        "pages",
        "last",
        "key",
        "truncated",
        "longer",
        "key truncated",
        "mode",
        "key mode",
        "gone",
    ],
)
def test_damaged_or_loosened_image_is_not_used(stale, where):
    (img,), (key,) = stale.images(), stale.images("*.key")
    size = img.stat().st_size
    if where in ("header", "pieces", "pages", "last"):
        _flip(img, {"header": 9, "pieces": 400, "pages": size // 2, "last": size - 1}[where])
    elif where == "key":
        _flip(key, key.stat().st_size // 2)
    elif where == "truncated":
        os.truncate(img, size - 4096)
    elif where == "longer":
        os.truncate(img, size + 4096)
    elif where == "key truncated":
        os.truncate(key, key.stat().st_size - 1)
    elif where == "gone":
        img.unlink()
    else:
        (img if where == "mode" else key).chmod(0o660)
    got = stale.again()
    assert not restored(got) and got.out.startswith("1 "), got.err
    assert "damaged" in reason(got) or "another user" in reason(got) or str(img) in reason(got)
    assert restored(stale.again())  # A new one has replaced it.


def test_boot_kernel_and_user_are_in_the_key(stale):
    (key,) = stale.images("*.key")
    text = key.read_bytes()
    for fact in (
        b"boot id",
        b"kernel",
        b"vdso",
        b"processor",
        b"user",
        b"personality",
        b"online processors",
    ):
        assert fact in text
    assert Path("/proc/sys/kernel/random/boot_id").read_bytes() in text


def test_recently_changed_module_is_not_captured(image, tmp_path):
    lib = Tree(tmp_path / "lib").write({"young.py": "x = 1\n"})
    got = image("-c", "pass", preload=["import young"], env={"PYTHONPATH": str(lib)})
    assert got.code == 0 and not image.images()
    again = image("-c", "pass", preload=["import young"], env={"PYTHONPATH": str(lib)})
    assert "young.py changed less than two seconds before" in reason(again)


READER = """
import json, os, pathlib
here = pathlib.Path(__file__).parent
config = json.loads((here / "config.json").read_text())
plugins = sorted(os.listdir(here / "plugins"))
extra = (here / "extra.txt").exists()
"""


@pytest.mark.parametrize("change", ["config.json", "plugins/new.txt", "extra.txt"])
def test_what_preloading_read_listed_or_missed_is_watched(image, tmp_path, change):
    files = {"reader.py": READER, "config.json": "1", "plugins/old.txt": ""}
    lib = Tree(tmp_path / "lib").write(files)
    time.sleep(RACY)

    def again():
        show = "import reader; print(reader.config, reader.plugins, reader.extra)"
        env = {"PYTHONPATH": str(lib)}
        return image("-c", show, preload=["import reader"], env=env)

    assert again().out == "1 ['old.txt'] False\n"
    assert restored(again())
    (lib / change).write_text("2")
    got = again()
    assert "changed" in reason(got)
    assert (
        got.out
        == {
            "config.json": "2 ['old.txt'] False\n",
            "plugins/new.txt": "1 ['new.txt', 'old.txt'] False\n",
            "extra.txt": "1 ['old.txt'] True\n",
        }[change]
    )


# ---------------------------------------------------------------------------------------------- refusals

LEFT = {
    "thread": ("import threading, time\nt = threading.Thread(target=time.sleep, args=(60,), daemon=True)\nt.start()\n", "left a thread: " + SLEEPER),
    "descriptor": ("import os\nfd = os.open('/dev/null', os.O_RDONLY)\n", "left a descriptor open: "),
    "child": ("import subprocess\np = subprocess.Popen(['true'])\n", "left a child process"),
    "folder": ("import os\nos.chdir('/')\n", "changed the working directory"),
    "umask": ("import os\nos.umask(0o77)\n", "changed the umask"),
    "limit": ("import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (99, 999))\n", "changed a resource limit"),
    "timer": ("import signal\nsignal.setitimer(signal.ITIMER_VIRTUAL, 1000)\n", "left a timer running"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_what_cannot_be_restored_is_refused_and_named_with_its_entry(image, tmp_path, name):
    source, why = LEFT[name]
    lib = Tree(tmp_path / "lib").write({"leaver.py": source})
    got = image("-c", "print('ran')", preload=["import leaver"], env={"PYTHONPATH": str(lib)})
    assert got.out == "ran\n" and f"'import leaver' {why}" in why_not_made(got)
    assert not image.images()  # What the next start makes of that: test_image_late.py.


WARM = """
import os, sqlite3, sys
rows = None
def load():
    global rows, by
    by = os.getpid()
    print("rows are built", file=sys.stderr)
    db = sqlite3.connect(f"file:{__file__[:-7]}data.db?mode=ro", uri=True)
    rows = db.execute("select x from t").fetchall()
    db.close()
"""


def test_what_a_call_built_is_there_until_a_file_that_c_code_read_changes(image, tmp_path):
    lib = Tree(tmp_path / "lib").write({"warm.py": WARM})
    db = sqlite3.connect(tmp_path / "lib" / "data.db")
    db.executescript("create table t (x); insert into t values (1)")
    db.close()
    time.sleep(RACY)

    def again():
        command = "import os, warm; print(warm.rows, warm.by == os.getpid())"
        return image("-c", command, preload=["call warm:load"], env={"PYTHONPATH": str(lib)})

    first, second = again(), again()
    assert restored(second) and (first.out, second.out) == ("[(1,)] True\n", "[(1,)] False\n")
    assert "rows are built" in first.err and "rows are built" in second.err
    db = sqlite3.connect(tmp_path / "lib" / "data.db")
    db.executescript("insert into t values (2)")
    db.close()
    changed = again()
    assert not restored(changed) and changed.out == "[(1,), (2,)] True\n"
    assert "data.db changed" in reason(changed)


@pytest.mark.parametrize("args", [["-v"], ["-X", "importtime"]], ids=str)
def test_reported_imports_really_happen(image, args):
    assert reason(image(*args, "-c", "pass")) == "imports are to be reported"


def test_a_library_s_clean_pages_are_one_mapping(image):
    show = "print(open('/proc/self/maps').read())"
    image.make("-c", show)
    maps = [line.split(maxsplit=5) for line in image("-c", show).out.splitlines() if line]
    files = [line for line in maps if len(line) == 6 and line[5].startswith("/")]
    assert sum(".so" in line[5] for line in files) > 3
    for left, right in itertools.pairwise(files):
        begin, end = (int(x, 16) for x in left[0].split("-"))
        joins = left[5] == right[5] and end == int(right[0].split("-")[0], 16)
        goes_on = int(left[2], 16) + end - begin == int(right[2], 16)
        clean = "w" not in left[1] + right[1]
        assert not (joins and goes_on and clean), (left, right)


# ---------------------------------------------------------------------------------------------- never leaking

TOKEN = "hf-ThisMustNotBeFound-0123456789"


def test_builder_s_environment_and_arguments_are_not_in_the_image(image):
    show = "import os, sys; print(len(os.environ['HF_TOKEN']), sys.argv)  # The-Program-Itself"
    env = {"HF_TOKEN": TOKEN, "OTHER": TOKEN + "-other"}
    image.make("-c", show, TOKEN[:20] + "argument", preload=["import json"], env=env)
    for path in image.images("*"):
        data = path.read_bytes()
        assert TOKEN.encode() not in data
        for text in (TOKEN[:20] + "argument", "# The-Program-Itself"):
            assert text.encode() not in data and text.encode("utf-32-le") not in data
        assert path.stat().st_mode & 0o777 == 0o600
    got = image("-c", show, preload=["import json"], env=env)
    assert restored(got) and got.out.startswith(f"{len(TOKEN)} ")


LITTER = """
def litter(size, text="".join(reversed("reveN-eB-tsuM-sihT"))):
    pairs = [((f"{i:06}-" + text).encode().ljust(size, b"-"), f"{i:06}-kept".encode().ljust(size, b"k")) for i in range(2000)]
    return [kept for freed, kept in pairs]
kept = [litter(size) for size in (40, 100, 250, 400, 700, 1500, 9000)]
"""


def test_freed_memory_is_not_in_the_image_and_not_handed_out(image, tmp_path):
    """What lay between what is kept: of the interpreter's allocator, and of malloc."""
    lib = Tree(tmp_path / "lib").write({"litter.py": LITTER})
    time.sleep(RACY)
    env = {"PYTHONPATH": str(lib)}
    image.make("-c", "pass", preload=["import litter"], env=env)
    (path,) = image.images()
    found = path.read_bytes().count(b"This-Must-Be-Never")
    assert found < 70, found  # Of 14,000.
    near = (
        "import litter\n"
        "new = [bytes([i]) * 67 for i in range(200)]\n"
        "print(len({id(x) >> 12 for x in new}))"
    )
    got = image("-c", near, preload=["import litter"], env=env)
    assert restored(got) and int(got.out) <= 12, got.out  # 20,000 bytes.


@pytest.fixture
def keeper(tmp_path) -> dict[str, str]:
    """The environment in which `import keeper` copies a secret."""
    lib = Tree(tmp_path / "lib").write({"keeper.py": "import os\nkept = os.environ['API_KEY']\n"})
    time.sleep(RACY)
    return {"PYTHONPATH": str(lib), "API_KEY": TOKEN}


SHOW_KEPT = ("-c", "import keeper; print(keeper.kept)")


def test_copied_secret_is_refused(image, keeper):
    image("-c", "pass", preload=["import keeper"], env=keeper)
    got = image(*SHOW_KEPT, preload=["import keeper"], env=keeper)
    assert "copied the value of API_KEY" in reason(got) and got.out == TOKEN + "\n"
    assert "--image-allow API_KEY" in reason(got)
    assert not image.images()


def test_copied_secret_is_allowed_by_name(image, keeper):
    env = {**keeper, "HF_TOKEN": TOKEN[::-1]}
    allowed = {**env, "PYLAUNCH_IMAGE_ALLOW": "OTHER, API_KEY"}
    image.make(*SHOW_KEPT, preload=["import keeper"], env=allowed)
    got = image(*SHOW_KEPT, preload=["import keeper"], env=allowed)
    assert restored(got) and got.out == TOKEN + "\n"
    for path in image.images("*"):
        assert TOKEN[::-1].encode() not in path.read_bytes()
    got = image(*SHOW_KEPT, preload=["import keeper"], env=env)
    assert not restored(got) and got.out == TOKEN + "\n"
    other = {**allowed, "API_KEY": TOKEN + "2"}
    got = image(*SHOW_KEPT, preload=["import keeper"], env=other)
    assert not restored(got) and got.out == TOKEN + "2\n"


# Where a secret can lie when preloading is over. In each, `key` is the value as text.
COPIES = {
    "text": "kept = key",
    "dict": "kept = dict(os.environ)",
    "copy": "kept = os.environ.copy()",
    "bytes": "kept = list(os.environb.values())",
    "bytearray": "kept = bytearray(os.environb[b'API_KEY'])",
    "popped": "kept = os.environ.pop('API_KEY')",
    "another variable": "os.environ['OTHER'] = key",
    "json": "import json; kept = json.dumps(dict(os.environ))",
    "repr": "kept = str(os.environ)",
    "header": "kept = f'Bearer {key}'",
    "two bytes a character": "kept = f'{key}\\u20ac'",
    "four bytes a character": "kept = f'{key}\\U0001f600'",
    "utf-16": "kept = key.encode('utf-16', 'surrogatepass')",
    "pickle": "import pickle; kept = pickle.dumps(key.encode(errors='surrogateescape'))",
    "code": "kept = compile(ascii(key), 'x', 'eval')",
    "closure": "kept = (lambda key: lambda: key)(key)",
    "cache": "import functools; kept = functools.lru_cache(str); kept(key)",
    "interned": "import sys; kept = sys.intern(key)",
    "attribute": "kept = type('T', (), {key: 1})",
    "exception": "try: raise ValueError(key)\nexcept ValueError as e: kept = e",
    "thread local": "import threading; kept = threading.local(); kept.key = key",
    "context": "import contextvars; kept = contextvars.ContextVar('kept'); kept.set(key)",
    "cycle": "kept = [key]; kept.append(kept); del kept",
    "array": "import array; kept = array.array('B', os.environb[b'API_KEY'])",
    "StringIO": "import io; kept = io.StringIO(); kept.write(key)",
    "BytesIO": "import io; kept = io.BytesIO(os.environb[b'API_KEY'])",
    "getenv": "import ctypes; g = ctypes.CDLL(None).getenv; g.restype = ctypes.c_void_p; kept = ctypes.create_string_buffer(ctypes.string_at(g(b'API_KEY')))",
    "strdup": "import ctypes; d = ctypes.CDLL(None).strdup; d.restype = ctypes.c_void_p; kept = d(os.environb[b'API_KEY'])",
    "wchar_t": "import ctypes; kept = ctypes.create_unicode_buffer(key)",
    "mmap": "import mmap; kept = mmap.mmap(-1, 1 << 23, flags=mmap.MAP_PRIVATE); kept[1 << 22 :][:0]; kept.write(os.environb[b'API_KEY'])",
    "shared mmap": "import mmap; kept = mmap.mmap(-1, 4096); kept.write(os.environb[b'API_KEY'])",
    "file": "import tempfile; kept = tempfile.TemporaryFile('w+', errors='surrogateescape'); kept.write(key)",
    "pipe": "kept = os.pipe(); os.write(kept[1], os.environb[b'API_KEY'])",
    "child": "import subprocess; kept = subprocess.run(['printenv', 'API_KEY'], stdout=subprocess.PIPE).stdout",
    "unprotected": "import ctypes, mmap; m = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE); m.write(os.environb[b'API_KEY']); a = ctypes.addressof(ctypes.c_char.from_buffer(m)); ctypes.CDLL(None).mprotect(ctypes.c_void_p(a), 4096, 0)",
    # On both sides of where the writer of images cuts memory in pieces, without ever having it whole.
    "across chunks": """import ctypes, posix
kept = bytearray(b'-') * (6 << 20)
near = ctypes.addressof(ctypes.c_char.from_buffer(kept))
at = ((near + (4 << 20)) & ~((2 << 20) - 1)) - 7 - near
view, value = memoryview(kept), memoryview(posix.environ[b'API_KEY'])
for i in range(len(value)): view[at + i] = value[i]
del view, value""",
}
# What was copied, and is gone.
THROWN_AWAY = {
    "looked up": "os.environ.get('API_KEY')",
    "asked for": "if os.environ.get('API_KEY'): kept = True",
    "asked for by C": "import ctypes; kept = bool(ctypes.CDLL(None).getenv(b'API_KEY'))",
    "used": "import hashlib; kept = hashlib.sha256(os.environb[b'API_KEY']).hexdigest()",
    "gone through": "kept = sorted(name for name, value in os.environ.items() if not value)",
    "joined": "kept = len('-'.join([os.environ['API_KEY']] * 9))",
    "many": "kept = [bytes(9) for x in [os.environ['API_KEY'] + str(i) for i in range(999)]]",
    "closed file": "f = open('/dev/null', 'w', errors='surrogateescape'); f.write(os.environ['API_KEY']); f.close(); del f",
}
ENCODED = (
    "text",
    "bytes",
    "json",
    "two bytes a character",
    "four bytes a character",
    "utf-16",
    "wchar_t",
    "across chunks",
)
SECRETS = {
    "ascii": TOKEN,
    "latin-1": "p\u00e4ssw\u00f6rd-verysecret",
    "ucs-2": "s\u00e9cret-\u20ac-verysecret",
    "ucs-4": "verysecret-\U0001f511-key",
    "no text": "verysecret-\udcff\udce4-key",
    "lines": '-----BEGIN "KEY"-----\nverysecret\\\n-----END-----\n',
}


@pytest.fixture(scope="module")
def hoarders(tmp_path_factory) -> Path:
    """A folder with a module for every way to keep a secret, or to throw it away."""
    lib = Tree(tmp_path_factory.mktemp("hoarders"))
    for i, source in enumerate(COPIES.values()):
        lib.write(
            {f"copy{i}.py": f"import os\nkey = {{**os.environ}}['API_KEY']\n{source}\ndel key\n"}
        )
    for i, source in enumerate(THROWN_AWAY.values()):
        lib.write({f"thrown{i}.py": f"import os\n{source}\n"})
    time.sleep(RACY)
    return lib


def forms(secret: str) -> dict[str, bytes]:
    latin = {"latin-1": secret.encode("latin-1")} if max(secret) < "\u0100" else {}
    return latin | {
        "bytes": os.fsencode(secret),
        "utf-16": secret.encode("utf-16-le", "surrogatepass"),
        "utf-32": secret.encode("utf-32-le", "surrogatepass"),
        "json": json.dumps(secret)[1:-1].encode(),
    }


def held(image: Imaged, secret: str) -> list[str]:
    """Which files of the cache hold it, and as what."""
    found = []
    for path in image.images("*"):
        data = path.read_bytes()
        for name, form in forms(secret).items():
            if form.rstrip(b"\0") in data:
                found.append(f"{path.name}: {name}")
    return found


@pytest.mark.parametrize(
    ("way", "secret"),
    [(way, "ascii") for way in COPIES]
    + [(way, secret) for secret in list(SECRETS)[1:] for way in ENCODED],
)
def test_no_image_holds_a_secret_wherever_it_was_copied_to(image, hoarders, way, secret):
    module = f"copy{list(COPIES).index(way)}"
    env = {"PYTHONPATH": str(hoarders), "API_KEY": SECRETS[secret]}
    for _ in range(2):  # What leaves more than memory is imported late from the second start on.
        got = image("-c", "print('ran')", preload=[f"import {module}"], env=env)
        assert got.out == "ran\n", got.err
    assert not held(image, SECRETS[secret])
    if not image.images():
        assert "copied the value of API_KEY" in reason(
            image("-c", "pass", preload=[f"import {module}"], env=env)
        )


@pytest.mark.parametrize("way", THROWN_AWAY)
def test_a_secret_that_was_thrown_away_forbids_nothing(image, hoarders, way):
    module = f"thrown{list(THROWN_AWAY).index(way)}"
    env = {"PYTHONPATH": str(hoarders), "API_KEY": TOKEN}
    image.make("-c", "pass", preload=[f"import {module}"], env=env)
    assert not held(image, TOKEN)
    assert restored(image("-c", "pass", preload=[f"import {module}"], env=env))


SHORT = {
    "name": "os.environ.get('{}')",
    "in": "'{}' in os.environ",
    "C": "import ctypes; ctypes.CDLL(None).getenv(b'{}')",
    "items": "list(os.environ.items())",
    "copy": "os.environb.copy()",
    "set": "os.environ['{}'] = 's3cret'",  # Restored programs would have it.
}


@pytest.mark.parametrize("way", SHORT)
def test_short_secret_that_was_read_or_set_is_refused(image, tmp_path, way):
    """Nobody could tell whether it is in memory."""
    lib = Tree(tmp_path / "lib").write(
        {"reader.py": f"import os\n{SHORT[way].format('API_KEY')}\n"}
    )
    time.sleep(RACY)
    env = {"PYTHONPATH": str(lib), "API_KEY": "s3cret7"}
    got = image("-c", "pass", preload=["import reader"], env=env)
    assert "read or set API_KEY, a secret by its name whose value is too short" in why_not_made(got)
    assert "--image-allow API_KEY" in why_not_made(got) and not image.images()
    image.make(
        "-c", "pass", preload=["import reader"], env={**env, "PYLAUNCH_IMAGE_ALLOW": "API_KEY"}
    )


@pytest.mark.parametrize(
    ("way", "name", "value"),
    [
        ("name", "API_KEY", ""),  # It is none.
        ("name", "API_KEY", None),
        ("name", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"),
        ("name", "TOKENIZERS_PARALLELISM", "maybe"),
        ("name", "SETTING", "s3cret7"),
        ("names", "API_KEY", "s3cret7"),
        ("other", "API_KEY", "s3cret7"),
    ],
)
def test_short_value_that_is_no_secret_or_was_not_read_forbids_nothing(
    image, tmp_path, way, name, value
):
    source = {"names": "list(os.environ)", "other": "os.environ.get('OTHER')", **SHORT}[way]
    lib = Tree(tmp_path / "lib").write({"reader.py": f"import os\n{source.format(name)}\n"})
    time.sleep(RACY)
    env = {"PYTHONPATH": str(lib)} | ({} if value is None else {name: value})
    image.make("-c", "pass", preload=["import reader"], env=env)
    assert restored(image("-c", "pass", preload=["import reader"], env=env))


def test_allowed_secrets_have_no_order(image, keeper):
    for names in ("OTHER,API_KEY", "API_KEY, OTHER,,API_KEY"):
        got = image(
            *SHOW_KEPT, preload=["import keeper"], env={**keeper, "PYLAUNCH_IMAGE_ALLOW": names}
        )
    assert restored(got), got.err


def test_capturing_process_is_invisible(image):
    program = (
        "import os, signal, time\n"
        "try: print(os.wait())\n"
        "except ChildProcessError: print('no child')\n"
        "print(signal.sigpending() or 'nothing pending', int(signal.getsignal(signal.SIGCHLD)))\n"
    )
    argv = image.argv("-c", program, explain=False)
    env = {k: v for k, v in image.env().items() if k != "PYLAUNCH_SEAL"}
    started = subprocess.run(
        argv, env=env, cwd=image.cwd, capture_output=True, timeout=60, text=True
    )
    assert started.stdout == "no child\nnothing pending 0\n", started
    deadline = time.monotonic() + 30
    while not image.images("*.key"):  # It outlives the program.
        assert time.monotonic() < deadline, list(image.images("*"))
        time.sleep(0.05)
    assert restored(image("-c", program))
