# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""An entry that leaves what memory does not hold is left out of the image and imported after each restore; all others are in it."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Result, Tree, serial
from imaged import MAPPINGS, PYTHON, RACY, SLEEPER, Imaged, reason, restored, why_not_made

LATE = r"^pylaunch: explain: image: imported late: (.*') ([a-z].*)$"


def late(result: Result) -> dict[str, str]:
    """Entries that were imported late and what they leave, as --explain tells."""
    return dict(re.findall(LATE, result.err, re.M))


class Plan:
    """Starts of one program with one preload plan."""

    def __init__(self, image: Imaged, lib: Tree, preload, program):
        self.image, self.lib, self.preload, self.program = image, lib, preload, program
        self.env = {"PYTHONPATH": str(lib)}

    def __call__(self, *options, program=None, **kwargs) -> Result:
        env = {**self.env, **kwargs.pop("env", {})}
        return self.image(*options, "-c", program or self.program, preload=self.preload, env=env, **kwargs)  # fmt: skip

    def stock(self, program=None) -> Result:
        return self.image.stock("-c", program or self.program, env=self.env)

    def archive(self, program=None) -> Result:
        """The same plan without an image."""
        argv = [x for x in self.image.argv("-c", program or self.program, preload=self.preload) if x != "--image"]  # fmt: skip
        done = subprocess.run(argv, env=self.image.env(self.env), cwd=self.image.cwd, capture_output=True, text=True, timeout=60)  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    def settle(self, most=2) -> list[Result]:
        """Starts until an image is made; those before it, and it."""
        runs = []
        while not self.image.images():
            assert len(runs) <= most, runs[-1].err
            runs.append(self())
        return runs


@pytest.fixture
def plan(lab, tmp_path):
    lab.need_pylaunch()

    def make(files, preload, program) -> Plan:
        lib = Tree(tmp_path / "lib").write({"early.py": EARLY, **files})
        time.sleep(RACY)
        return Plan(Imaged(lab, tmp_path / "image"), lib, preload, program)

    return make


# Who was there when this was imported?
EARLY = "import os\npid = os.getpid()\n"

CONTROL = "import ctypes\nprctl = ctypes.CDLL(None).prctl\n"

# A page of its own, `page`, at `at`.
MAPPED = MAPPINGS + "at = fresh(0x22)\npage = (ctypes.c_ubyte * 4096).from_address(at)\n"

# What a module leaves; how a program sees it; how --explain names it.
LEAVERS = {
    "thread": ("import threading, time\nt = threading.Thread(target=time.sleep, args=(60,), daemon=True)\nt.start()\n",
               "leaver.t.is_alive(), len(os.listdir('/proc/self/task'))", rf"left a thread: {re.escape(SLEEPER)}.*"),
    "descriptor": ("import os\nfd = os.open('/dev/null', os.O_RDONLY)\n",
                   "os.readlink(f'/proc/self/fd/{leaver.fd}')", r"left a descriptor open: \d+ \(/dev/null\)"),
    "lock file": ("import fcntl, os, tempfile\nfile = open(os.path.join(tempfile.gettempdir(), 'pylaunch-test-lock'), 'w')\nfcntl.flock(file, fcntl.LOCK_EX)\n",
                  "leaver.file.write('x'), fcntl.flock(leaver.file, fcntl.LOCK_UN)", r"left a descriptor open: \d+ \(.*pylaunch-test-lock\)"),
    "child": ("import subprocess\np = subprocess.Popen(['true'])\n", "leaver.p.wait()", "left a child process"),
    "folder": ("import os\nos.chdir('/')\n", "os.getcwd()", "changed the working directory"),
    "umask": ("import os\nos.umask(0o77)\n", "os.umask(0)", "changed the umask"),
    "limit": ("import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (99, 999))\n",
              "resource.getrlimit(resource.RLIMIT_NOFILE)", "changed a resource limit"),
    "timer": ("import signal\nsignal.setitimer(signal.ITIMER_VIRTUAL, 1000)\n",
              "signal.getitimer(signal.ITIMER_VIRTUAL)[0] > 900", "left a timer running"),
    "posix timer": ("import ctypes, ctypes.util\ntimer = ctypes.c_void_p()\nrt = ctypes.CDLL('librt.so.1')\nmade = rt.timer_create(0, None, ctypes.byref(timer))\n",
                    "leaver.made, len(open('/proc/self/timers').read()) > 0", "left a timer running"),
    "shared memory": ("import mmap\nshared = mmap.mmap(-1, 4096)\nshared[:2] = b'ab'\n",
                      "leaver.shared[:2]", "left memory that cannot be mapped again.*"),
    "semaphore": ("import multiprocessing\nlock = multiprocessing.get_context('fork').Lock()\n",
                  "leaver.lock.acquire(), leaver.lock.acquire(False)", "left (memory that cannot be mapped again|a file mapped shared and writable).*"),
    "output": (
        "import ctypes\nctypes.CDLL(None).puts(b'from C')\n",
        "leaver.ctypes.CDLL(None).fflush(None)",
        "wrote to C's stdout",
    ),
    "closed descriptor": ("import os\nos.close(0)\n", "os.path.exists('/proc/self/fd/0')", r"closed a descriptor: 0 \(.*\)"),
    "redirected descriptor": ("import os\nos.dup2(1, 0)\n", "os.readlink('/proc/self/fd/0') == os.readlink('/proc/self/fd/1')",
                              r"redirected a descriptor: 0 \(pipe:.*\)"),
    "nice": ("import os\nos.nice(3)\n", "os.getpriority(os.PRIO_PROCESS, 0)", "changed its scheduling"),
    "policy": ("import os\nos.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))\n", "os.sched_getscheduler(0)", "changed its scheduling"),
    "affinity": ("import os\nos.sched_setaffinity(0, {max(os.sched_getaffinity(0))})\n", "os.sched_getaffinity(0)", "changed the processor affinity"),
    "oom score": ("with open('/proc/self/oom_score_adj', 'w') as file: file.write('500')\n",
                  "open('/proc/self/oom_score_adj').read()", "changed its oom_score_adj"),
    "no new privileges": (CONTROL + "prctl(38, 1, 0, 0, 0)\n", "leaver.prctl(39, 0, 0, 0, 0)", "forbade new privileges"),
    "dumpable": (CONTROL + "prctl(4, 0, 0, 0, 0)\n", "leaver.prctl(3, 0, 0, 0, 0)", "changed whether its memory may be dumped"),
    "timer slack": (CONTROL + "prctl(29, 77777, 0, 0, 0)\n", "leaver.prctl(30, 0, 0, 0, 0)", "changed its timer slack"),
    "huge pages": (CONTROL + "prctl(41, 1, 0, 0, 0)\n", "leaver.prctl(42, 0, 0, 0, 0)", "changed its use of huge pages"),
    "parent's end": (CONTROL + "prctl(1, 15, 0, 0, 0)\n", "(v := leaver.ctypes.c_int()) and None, leaver.prctl(2, leaver.ctypes.byref(v)), v.value",
                     "asked for a signal at its parent's end"),
    "bounding set": (CONTROL + "prctl(24, 19, 0, 0, 0)\n", "[x for x in open('/proc/self/status') if x.startswith('Cap')]", "changed capabilities"),
    "groups": ("import os\nos.setgroups([5])\n", "os.getgroups()", "changed the supplementary groups"),
    "locked memory": ("import ctypes\nblock = (ctypes.c_char * 8192)()\nctypes.CDLL(None).mlock(block, 4096)\n",
                      "int(next(x for x in open('/proc/self/status') if x.startswith('VmLck')).split()[1]) > 0", "locked memory"),
    "memory that is not inherited": (MAPPED + "libc.madvise(at, SIZE, 10)\npage[0] = 7\n", "leaver.page[0]", "left memory that forked processes do not get"),
    "memory that grows": (MAPPED.replace("0x22", "0x122"), "leaver.flags(leaver.at)", "left memory that grows downward"),
    "pending signal": ("import os, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})\nos.kill(os.getpid(), signal.SIGUSR1)\n",
                       "signal.sigpending()", "left a signal pending"),
    "memory merging": (CONTROL + "prctl(67, 1, 0, 0, 0)\n", "leaver.prctl(68, 0, 0, 0, 0)", "asked for its memory to be merged"),
    "no new code": (CONTROL + "prctl(65, 1, 0, 0, 0)\n", "leaver.prctl(66, 0, 0, 0, 0)", "forbade itself new code"),
    "GS base": ("import ctypes\ncall = ctypes.CDLL(None).syscall\ncall(158, 0x1001, 4096)\n",
                "(v := leaver.ctypes.c_long()) and None, leaver.call(158, 0x1004, leaver.ctypes.byref(v)), v.value", "set the GS base"),
    "namespace": ("import ctypes\nctypes.CDLL(None).unshare(0x04000000)\n", "os.readlink('/proc/self/ns/uts') != os.readlink(f'/proc/{os.getppid()}/ns/uts')",
                  "changed its uts namespace"),
    "core filter": ("with open('/proc/self/coredump_filter', 'w') as file: file.write('1')\n", "open('/proc/self/coredump_filter').read()",
                    "changed what a core dump holds"),
    "two things": ("import os, threading, time\nos.umask(0o77)\nt = threading.Thread(target=time.sleep, args=(60,), daemon=True)\nt.start()\n",
                   "leaver.t.is_alive(), os.umask(0)", rf"left a thread: {re.escape(SLEEPER)}.*; changed the umask"),
}  # fmt: skip

SHOW = """
import fcntl, os, resource, signal, sys
import early, leaver, json
print({expression})
print("pids", leaver.__name__, os.getpid() == early.pid, file=sys.stderr)
"""


@pytest.mark.parametrize("name", LEAVERS)
def test_what_an_entry_left_is_there_after_each_restore(plan, name):
    source, expression, left = LEAVERS[name]
    program = SHOW.format(expression=expression)
    start = plan({"leaver.py": source}, ["import leaver", "import early"], program)
    expected = start.stock()
    found = start()
    assert re.fullmatch(
        rf"'import leaver' {left}; from the next start on imported late",
        why_not_made(found),
    ), found.err
    made, first, second = start(), start(), start()
    assert "image: being made" in made.err and not restored(made)
    for run in (found, made, first, second):
        assert (run.code, run.out) == (0, expected.out), run.err
    for run in (made, first, second):
        ((entry, why),) = late(run).items()
        assert entry == "--preload:1:1: 'import leaver'" and re.fullmatch(left, why)
    for run in (first, second):
        assert restored(run) and "pids leaver False" in run.err  # `early` is from the image.
    assert len(start.image.images()) == 1 and not start.image.images("*.note")


# ---------------------------------------------------------------------------------------------- which entries

THREAD = LEAVERS["thread"][0]


def test_only_the_entry_that_left_something_is_late_and_the_order_is_the_plan_s(plan):
    note = "import sys\nsys.order = getattr(sys, 'order', []) + [__name__]\n"
    files = {f"{name}.py": note for name in "abcd"}
    files |= {
        "b.py": note + THREAD,
        "d.py": note + "import os\nos.umask(0o22 + 0o5)\n",
        "e.py": note,
    }
    start = plan(files, [f"import {x}" for x in "abcde"], "import sys; print(sys.order)")
    found, made, again = start(), start(), start()
    assert "'import b' left a thread" in why_not_made(found)
    assert "'import d' changed the umask" in why_not_made(found)
    assert found.out == "['a', 'b', 'c', 'd', 'e']\n"
    assert restored(again), again.err
    for run in (made, again):
        assert run.out == "['a', 'c', 'e', 'b', 'd']\n"
        assert [x.split()[-1].strip("'") for x in late(run)] == ["b", "d"]


def test_an_entry_that_needs_a_late_one_is_late_too(plan):
    files = {"leaver.py": THREAD, "user.py": "import leaver\n"}
    start = plan(files, ["import leaver", "import user", "import early"], "import user; print(user.leaver.t.is_alive())")  # fmt: skip
    runs = start.settle()
    assert len(runs) == 3, [run.err for run in runs]
    again = start()
    assert restored(again) and len(late(again)) == 2
    assert [run.out for run in [*runs, again]] == ["True\n"] * 4


def test_threads_that_end_and_threads_that_know_of_forks_are_no_reason(plan):
    named = "import ctypes, threading, time\ndef run():\n ctypes.CDLL(None).prctl(15, b'jemalloc_bg_thd')\n global named\n named = True\n time.sleep(60)\n"
    named += "t = threading.Thread(target=run, daemon=True)\nt.start()\nwhile 'named' not in globals(): time.sleep(0.001)\n"
    brief = "import threading, time\nt = threading.Thread(target=time.sleep, args=(0.05,))\nt.start()\nt.join()\n"
    start = plan({"named.py": named, "brief.py": brief}, ["import named, brief"], "print('ran')")
    made, again = start(), start()
    assert "image: being made" in made.err and restored(again) and not late(again), made.err


def test_what_belongs_to_no_entry_forbids_the_image(plan):
    start = plan({"sitecustomize.py": THREAD, "leaver.py": LEAVERS["umask"][0]}, ["import leaver"], "print('ran')")  # fmt: skip
    for _ in range(3):
        run = start()
        assert run.out == "ran\n" and why_not_made(run).startswith(
            f"site or what it imports left a thread: {SLEEPER}"
        )
        assert not late(run) and not start.image.images("*")


def test_a_thread_s_own_deeds_are_its_entry_s(plan):
    """What it does after the last entry was imported, nobody but it can have done."""
    slow = "import os, threading, time\ndef run():\n time.sleep(0.1)\n global fd\n fd = os.open('/dev/null', 0)\n threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n time.sleep(60)\n"
    slow += "threading.Thread(target=run, daemon=True).start()\n"
    start = plan({"slow.py": slow}, ["import slow"], "print('ran')")
    runs = start.settle()
    assert "'import slow' left a thread" in why_not_made(runs[0])
    again = start()
    assert restored(again) and len(late(again)) == 1 and again.out == "ran\n"


def test_all_entries_may_be_late(plan):
    start = plan({"leaver.py": THREAD}, ["import leaver"], "import leaver; print(leaver.t.is_alive())")  # fmt: skip
    start.settle()
    again = start()
    assert restored(again) and len(late(again)) == 1 and again.out == "True\n"


# ---------------------------------------------------------------------------------------------- as on the archive path


def test_environment_of_the_entry(plan):
    source = "import os\nmode = os.environ.get('MODE')\n" + THREAD
    show = "import leaver, os; print(leaver.mode, os.environ.get('MODE'), os.environ.get('ALL'))"
    start = plan({"leaver.py": source}, ["ALL=1", "MODE=own import leaver", "import early"], show)
    start.settle()
    again = start()
    assert restored(again) and late(again), again.err
    assert again.out == start.archive().out == "own None 1\n"


@pytest.mark.parametrize("kind", ["import", "from", "call", "optional", "doctor"])
def test_an_entry_that_no_longer_loads(plan, tmp_path, kind):
    flag = tmp_path / "broken"
    broken = f"import os\nif os.path.exists({str(flag)!r}): raise ImportError('broken now')\n"
    source = THREAD + (broken if kind != "call" else "def f():\n" + re.sub("^", " ", broken, flags=re.M) + "\n return 1\n")  # fmt: skip
    if kind == "doctor":
        source = THREAD + broken.replace("raise ImportError('broken now')", "import not_installed")
    line = {"from": "from leaver import t", "call": "call leaver:f", "optional": "optional import leaver"}  # fmt: skip
    preload = [line.get(kind, "import leaver"), "import early"]
    start = plan({"leaver.py": source}, preload, "import early, sys; print('leaver' in sys.modules)")  # fmt: skip
    start.settle()
    again = start()
    assert restored(again) and again.out == "True\n" and late(again), again.err
    flag.write_text("")
    expected, got = start.archive(), start()
    assert restored(got), got.err
    assert "broken now" in expected.err or "not_installed" in expected.err

    def told(run):
        return [x for x in run.err.splitlines() if ": explain:" not in x]

    assert told(got) == told(expected)
    assert (got.code, got.out) == (expected.code, expected.out) == ((0, "False\n") if kind == "optional" else (1, ""))  # fmt: skip


@serial
def test_interrupt_during_a_late_import(plan, tmp_path):
    go = tmp_path / "go"
    slow = f"import os, time\nif os.path.exists({str(go)!r}):\n open({str(go)!r} + 'ne', 'w').close()\n time.sleep(60)\n"
    start = plan({"leaver.py": THREAD + slow}, ["import leaver"], "print('ran')")
    start.settle()
    go.write_text("")
    argv = start.image.argv("-c", start.program, preload=start.preload)
    process = subprocess.Popen(argv, env=start.image.env(start.env), cwd=start.image.cwd, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
    while not Path(f"{go}ne").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT and out == "" and "imported late" in err


def test_surroundings_of_a_late_import_are_the_program_s(plan, tmp_path):
    source = (
        THREAD
        + "import sys, __main__\nseen = sys.path[0], sys.argv, getattr(__main__, '__file__', None)\n"
    )
    start = plan({"leaver.py": source}, ["import leaver"], "")
    tree = Tree(tmp_path / "tree").write({"one.py": "import leaver, sys; print(leaver.seen, sys.path[0])", "two.py": "import leaver, sys; print(leaver.seen, sys.path[0])"})  # fmt: skip
    time.sleep(RACY)

    def run(name, *args):
        return start.image(tree / name, *args, preload=start.preload, env=start.env)

    run("one.py")
    run("one.py")
    got = run("two.py", "x", "y")
    assert restored(got), got.err
    folder, two = str(tree), str(tree / "two.py")
    assert got.out == f"{(folder, [two, 'x', 'y'], two)} {folder}\n"
    assert got.out == start.image.stock(tree / "two.py", "x", "y", env=start.env).out


def test_a_later_change_of_what_a_late_entry_read_is_told(plan):
    source = THREAD + "import os\nsetting = os.environ.get('A_SETTING')\n"
    start = plan({"leaver.py": source}, ["import leaver", "import early"], "import os; os.environ['A_SETTING'] = '1'")  # fmt: skip
    start.settle()
    again = start()
    assert restored(again) and again.warnings() == start.archive().warnings() != []


ENDINGS = {
    "atexit": "",
    "held": "class A:\n def __del__(self): print('del')\nleaver.mine = A()",
    "file": "f = open('out', 'w'); f.write('kept')",
    "code": "import sys; sys.exit(7)",
    "raise": "1 / 0",
    "cycle": "import gc, json\nclass N: pass\nn = N(); n.n = n; n.l = leaver; del n; leaver.more = json; print(gc.collect() > 0)",
    "fork": "import os\npid = os.fork()\nif pid == 0: os._exit(3)\nprint(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))",
}


@pytest.mark.parametrize("exit_", ["fast", "full"])
def test_ends_of_programs_are_stocks(plan, exit_):
    source = (
        THREAD
        + "import atexit\natexit.register(print, 'late handler')\nclass Big: pass\nmany = [Big() for _ in range(1000)]\nfor x in many: x.all = many\n"
    )
    start = plan({"leaver.py": source}, ["import leaver", "import early, json"], "pass")
    start.settle()
    for name, ending in ENDINGS.items():
        program = f"import early, leaver\n{ending}"
        seen = []
        for run in (lambda p: start.stock(p), lambda p: start("--exit", exit_, program=p)):
            (start.image.cwd / "out").unlink(missing_ok=True)
            result = run(program)
            assert len(seen) == 0 or restored(result), result.err
            file = start.image.cwd / "out"
            err = re.sub(
                r"pid=\d+", "pid", result.without_pylaunch_lines().err
            )  # From 3.12 on, a warning.
            seen.append((result.code, result.out, err, file.exists() and file.read_text()))
        assert seen[0] == seen[1], name


# ---------------------------------------------------------------------------------------------- the list


def build(start: Plan, *flags) -> Result:
    argv = start.image.argv("-c", start.program, preload=start.preload, explain=False)
    argv[argv.index("--image")] = "--image-build"
    argv[1:1] = flags
    done = subprocess.run(argv, env=start.image.env(start.env), cwd=start.image.cwd, capture_output=True, text=True, timeout=120)  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("flags", [[], ["--cache-mode", "refresh"]], ids=str)
def test_image_build_makes_it_in_one_command(plan, flags):
    files = {"leaver.py": THREAD, "user.py": "import leaver\n"}
    start = plan(files, ["import leaver", "import user", "import early"], "import user; print(user.leaver.t.is_alive())")  # fmt: skip
    made = build(start, *flags)
    assert made.code == 0 and re.search(r"\.img: made in ", made.out) and made.err == "", made
    again = start()
    assert restored(again) and len(late(again)) == 2 and again.out == "True\n", again.err
    # Named as the program that it is started by, or by CPython.
    thread = Path(PYTHON).name if SLEEPER == "python" else SLEEPER
    words = [f"'import {name}' left a thread: {thread}" for name in ("leaver", "user")]
    assert made.out.splitlines()[1:] == [f"  late     {line}" for line in words]
    assert "already there" in build(start).out
    assert build(start, "--json").json["late"] == words
    argv = [str(start.image.lab.pylaunch), "--cache", str(start.image.cache), "--stats"]
    stats = [subprocess.run([*argv, *x], env=start.image.env(start.env), capture_output=True, text=True).stdout for x in ([], ["--json"])]  # fmt: skip
    assert f"\n  late     {words[1]}\n" in stats[0]
    assert json.loads(stats[1])["images"][0]["late"] == words


def test_image_build_tells_what_no_entry_left(plan):
    start = plan({"sitecustomize.py": THREAD}, ["import early"], "")
    made = build(start)
    assert made.code == 1 and f"cause: site or what it imports left a thread: {SLEEPER}" in made.err


def test_a_late_entry_is_tried_again_once_its_files_have_changed(plan):
    start = plan({"leaver.py": THREAD}, ["import leaver", "import early"], "import leaver; print(leaver.t)")  # fmt: skip
    start.settle()
    assert restored(start())
    start.lib.write({"leaver.py": "import os\nt = pid = os.getpid()\n"})
    got = start()
    assert restored(got) and late(got)  # The image is as good as it was.
    assert got.out != start().out  # Imported, and the new source.
    start.lib.write({"early.py": EARLY + "\n"})
    time.sleep(RACY)
    made, again = start(), start()
    assert "image: being made" in made.err and not late(made), made.err
    assert restored(again) and not late(again) and again.out == made.out


def test_a_late_entry_stays_late_when_other_files_change(plan):
    start = plan({"leaver.py": THREAD}, ["import leaver", "import early"], "import leaver; print(leaver.t.is_alive())")  # fmt: skip
    start.settle()
    start.lib.write({"early.py": EARLY + "\n"})
    time.sleep(RACY)
    made, again = start(), start()
    assert "early.py changed" in reason(made) and "image: being made" in made.err and late(made)
    assert restored(again) and late(again)


@pytest.mark.parametrize("mode", ["readonly", "sealed"])
def test_images_that_are_only_used_have_late_entries_too(plan, mode):
    start = plan({"leaver.py": THREAD}, ["import leaver", "import early"], "import leaver; print(leaver.t.is_alive())")  # fmt: skip
    start.settle()
    got = start("--cache-mode", mode)
    assert restored(got) and late(got) and got.out == "True\n", got.err
    assert got.archive_counts()[0] > 0  # It is from the archive.


def test_another_plan_has_nothing_to_do_with_it(plan):
    start = plan({"leaver.py": THREAD}, ["import leaver"], "print('ran')")
    start.settle()
    start.preload = ["import leaver", "import early"]
    assert "'import leaver' left a thread" in why_not_made(start())


@pytest.mark.parametrize("damage", ["truncated", "altered", "empty", "mode", "folder"])
def test_a_list_that_is_damaged_or_somebody_else_s_is_not_used(plan, damage):
    start = plan({"leaver.py": THREAD}, ["import leaver"], "print('ran')")
    start()
    (file,) = start.image.images("*.late")
    assert file.stat().st_mode & 0o777 == 0o600
    bytes_ = file.read_bytes()
    if damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes({"truncated": bytes_[:-1], "altered": bytes_[:-3] + b"x" + bytes_[-2:], "empty": b""}.get(damage, bytes_))  # fmt: skip
        file.chmod(0o620 if damage == "mode" else 0o600)
    got = start()
    assert got.out == "ran\n" and "'import leaver' left a thread" in why_not_made(got)
    if damage != "folder":
        start.settle()
        assert late(start())


# ---------------------------------------------------------------------------------------------- devices

LIBCUDA = """
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>
static int device = -1, owner;
static void* serve(void* unused) { for (;;) pause(); return unused; }
int cuInit(unsigned flags) {
  pthread_t thread;
  (void)flags;
  device = open("/dev/null", O_RDWR | O_CLOEXEC);  /* For /dev/nvidiactl. */
  owner = getpid();
  if (THREADS) pthread_create(&thread, 0, serve, 0);
  return device < 0 ? 999 : 0;
}
/* As the driver answers in a forked child: CUDA_ERROR_NOT_INITIALIZED. */
int cuDeviceGetCount(int* count) {
  if (owner != getpid() || fcntl(device, F_GETFD) < 0) return 3;
  *count = 1;
  return 0;
}
"""

EXTENSION = """
#include <Python.h>
int cuInit(unsigned);
int cuDeviceGetCount(int*);
static PyObject* count(PyObject* self, PyObject* none) {
  int n = 0, error = cuDeviceGetCount(&n);
  (void)self; (void)none;
  return Py_BuildValue("ii", error, n);
}
static PyMethodDef methods[] = {{"count", count, METH_NOARGS, 0}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "gpu", 0, -1, methods};
PyMODINIT_FUNC PyInit_gpu(void) { return cuInit(0) == 0 ? PyModule_Create(&module) : NULL; }
"""

BY_CTYPES = """
import ctypes, os
_cuda = ctypes.CDLL(os.path.join(os.path.dirname(__file__), "libcuda.so.1"))
assert _cuda.cuInit(0) == 0
def count():
    n = ctypes.c_int()
    return _cuda.cuDeviceGetCount(ctypes.byref(n)), n.value
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize("threads", [0, 1], ids=["device", "device and thread"])
@pytest.mark.parametrize("by", ["ctypes", "extension"])
def test_a_device_that_an_import_opens(plan, tmp_path, by, threads):
    lib = Tree(tmp_path / "lib").write({"cuda.c": LIBCUDA, "gpu.c": EXTENSION})

    def cc(*args):
        done = subprocess.run(["cc", "-shared", "-fPIC", "-o", *args], cwd=tmp_path / "lib", capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stderr

    cc("libcuda.so.1", "cuda.c", "-pthread", f"-DTHREADS={threads}", "-Wl,-soname,libcuda.so.1")
    if by == "extension":
        where = subprocess.run([PYTHON, "-c", "import sysconfig; print(sysconfig.get_path('include'), sysconfig.get_config_var('EXT_SUFFIX'))"], capture_output=True, text=True).stdout.split()  # fmt: skip
        if not Path(where[0], "Python.h").exists():
            pytest.skip(f"{PYTHON} has no headers")
        cc(f"gpu{where[1]}", "gpu.c", f"-I{where[0]}", "-L.", "-l:libcuda.so.1", "-Wl,-rpath,$ORIGIN")  # fmt: skip
    else:
        lib.write({"gpu.py": BY_CTYPES})
    lib.settle(only=list((tmp_path / "lib").iterdir()))
    start = plan({}, ["import gpu", "import early"], "import early, gpu, os; print(gpu.count())")
    expected = start.stock()
    assert expected.out == "(0, 1)\n", expected.err
    runs = start.settle()
    assert "left a descriptor open" in why_not_made(runs[0])
    assert ("left a thread: " in why_not_made(runs[0])) == bool(threads)
    again = start()
    assert restored(again) and list(late(again)) == ["--preload:1:1: 'import gpu'"]
    assert {run.out for run in [*runs, again]} == {expected.out}


# ---------------------------------------------------------------------------------------------- the real one

POLARS = """
import json, polars as pl
frame = pl.DataFrame({"group": list("abcab") * 2000, "x": range(10000)})
print(frame.lazy().group_by("group").agg(pl.col("x").sum(), pl.col("x").mean().alias("mean")).sort("group").collect())
print(frame.filter(pl.col("x") % 7 == 0).height, pl.Series([3, 1, 2]).sort().to_list(), pl.thread_pool_size())
print(sorted({name for t in __import__("os").listdir("/proc/self/task") for name in [open(f"/proc/self/task/{t}/comm").read().strip()] if name == "polars-ooc-clea"}))
"""


@pytest.mark.skipif(
    os.environ.get("PYLAUNCH_ECOSYSTEM") != "full",
    reason="slow: PYLAUNCH_ECOSYSTEM=full runs it",
)
def test_polars(lab, tmp_path):
    lab.need_pylaunch()
    venv = tmp_path / "venv"
    subprocess.run([PYTHON, "-m", "venv", str(venv)], check=True)
    subprocess.run([str(venv / "bin" / "pip"), "install", "-q", "polars", "numpy"], check=True)
    for path in venv.rglob("*"):  # Too young, they would prove nothing.
        if path.is_file() and not path.is_symlink():
            os.utime(path, (time.time() - 100,) * 2)
    time.sleep(RACY)
    image = Imaged(lab, tmp_path / "image")

    def start():
        argv = image.argv("-c", POLARS, preload=["import polars", "import numpy, json"])
        argv[argv.index("--python") + 1] = str(venv / "bin" / "python")
        done = subprocess.run(argv, env=image.env(), cwd=image.cwd, capture_output=True, text=True, timeout=300)  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    stock = subprocess.run([str(venv / "bin" / "python"), "-c", POLARS], env=image.env(), cwd=image.cwd, capture_output=True, text=True)  # fmt: skip
    found, made, first, second = start(), start(), start(), start()
    assert "'import polars' left a thread: polars-ooc-clea" in why_not_made(found)
    assert "image: being made" in made.err
    for run in (found, made, first, second):
        assert (run.code, run.out) == (0, stock.stdout), run.err
    for run in (first, second):
        assert restored(run) and list(late(run)) == ["--preload:1:1: 'import polars'"]
