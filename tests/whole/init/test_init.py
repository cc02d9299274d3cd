# ruff: noqa: E501 - programs in strings read better on long lines.
"""pylaunch as process 1: what the program finds, whom a signal reaches, who is reaped, how it ends.

The ideas of tini's and dumb-init's own tests are all here: exit codes, death by a signal, every signal that can be
caught, reaping, dispositions and masks, the parent's death, terminals, suspending, a session leader's spurious SIGHUP,
the working directory.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import pty
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from conftest import (
    ROOT,
    alive,
    archives,
    children,
    clean_environment,
    finish,
    process_state,
    serial,
    start,
    wait_until,
)

NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
# No option, and Python where everybody has it: then the init has no C library (launcher/usual_start.cc).
USUAL = None
# Runtimes of containers let process 1 lead a session; unshare(1) does not.
PLACES = {
    "container": ([*NAMESPACE, "setsid"], []),
    "container, usual start": ([*NAMESPACE, "setsid"], USUAL),
    "namespace": (NAMESPACE, []),
    "always": ([], ["--init", "always"]),
    "always, leader": (["setsid"], ["--init", "always"]),
}
NEVER = (PLACES["container"][0], ["--init", "never"])
# Not the C library's own two (nptl(7)).
CAUGHT = [
    x for x in range(1, signal.SIGRTMAX + 1) if x not in (signal.SIGKILL, signal.SIGSTOP, 32, 33)
]


@pytest.fixture(scope="session", autouse=True)
def permitted():
    allowed = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True)
    if allowed.returncode != 0:
        pytest.skip(f"unshare is not permitted here: {allowed.stderr.strip()}")


def status(pid: int, *names: str) -> dict[str, str]:
    lines = (x.split(":", 1) for x in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: value.strip() for name, value in lines if name in names}


class Place:
    """Where pylaunch is started, and how it knows that it is to be an init."""

    def __init__(self, lab, folder: Path, prefix, options):
        lab.need_pylaunch()
        self.lab, self.folder, self.prefix, self.options = lab, folder, prefix, options
        self.cache = folder / "cache"

    def argv(self, *args) -> list[str]:
        ours = [self.lab.pylaunch]
        if self.options is not USUAL:
            ours += ["--python", self.lab.python, "--cache", self.cache, *self.options]
        prefix = list(self.prefix)
        if prefix:
            prefix[0] = shutil.which(prefix[0])
        return [str(x) for x in (*prefix, *ours, *args)]

    def env(self, **extra) -> dict[str, str]:
        if self.options is USUAL:
            extra["PYLAUNCH_CACHE"] = str(self.cache)
            extra["VIRTUAL_ENV"] = str(Path(self.lab.python).parents[1])
        return clean_environment(self.lab.home, **extra)

    def begin(self, *args, env=None, **kwargs) -> subprocess.Popen:
        return start(self.argv(*args), self.env(**(env or {})), self.folder, **kwargs)

    def __call__(self, *args, **kwargs):
        code, out, err = finish(self.begin(*args, **kwargs))
        return code, out.decode(), err.decode()

    def init_of(self, started: subprocess.Popen) -> int:
        """The number here of the process that is the init."""
        return (
            wait_until(lambda: children(started.pid), "process 1")[0]
            if "--fork" in self.prefix
            else started.pid
        )

    def stock(self, *args, prefix=(), **kwargs):
        argv = [*self.prefix, *prefix, self.lab.python, *args]
        code, out, err = finish(start(argv, self.env(), self.folder, **kwargs))
        return code, out.decode(), err.decode()


@pytest.fixture(params=PLACES)
def place(request, lab, tmp_path) -> Place:
    return Place(lab, tmp_path, *PLACES[request.param])


@pytest.fixture(params=["container", "container, usual start"])
def container(request, lab, tmp_path) -> Place:
    return Place(lab, tmp_path, *PLACES[request.param])


# ------------------------------------------------------------------------------------------ who is what

WHO = "import os, sys; print(os.getpid(), os.getppid()); print(open(f'/proc/{os.getppid()}/comm').read())"


@pytest.mark.parametrize("command", [["-c", WHO], ["-"]], ids=["command", "stdin"])
def test_process_1_stays_and_the_program_is_its_child(container, command):
    stdin = subprocess.PIPE if command == ["-"] else None
    process = container.begin(*command, stdin=stdin)
    code, out, err = finish(process, WHO.encode() if stdin else None)
    assert (code, out.split(), err) == (0, [b"2", b"1", b"pylaunch"], b"")


def test_never_and_elsewhere_there_is_none(lab, tmp_path):
    assert Place(lab, tmp_path, *NEVER)("-c", "import os; print(os.getpid())") == (0, "1\n", "")
    twin = Place(lab, tmp_path, NEVER[0], [])
    assert twin("-c", WHO, env={"PYLAUNCH_INIT": "never"})[1].startswith("1 0\n")
    parent = Place(lab, tmp_path, [], [])("-c", "import os; print(os.getppid())")
    assert parent == (0, f"{os.getpid()}\n", "")


def test_the_twin_is_about_one_process(lab, tmp_path):
    """What the program starts does not become an init, too."""
    here = Place(lab, tmp_path, [], [])
    tell = "import os; print(os.getppid(), os.environ.get('PYLAUNCH_INIT'))"
    parent, variable = here("-c", tell, env={"PYLAUNCH_INIT": "always"})[1].split()
    assert int(parent) != os.getpid() and variable == "None"
    # Python's -E is about our variables, too.
    assert here("-E", "-c", tell, env={"PYLAUNCH_INIT": "always"})[1] == f"{os.getpid()} always\n"


def test_another_word_is_refused(lab, tmp_path):
    code, out, err = Place(lab, tmp_path, [], ["--init", "perhaps"])("-c", "print(1)")
    assert (code, out) == (2, "") and err.startswith("pylaunch: error: --init: ")
    code, out, err = Place(lab, tmp_path, [], [])("-c", "", env={"PYLAUNCH_INIT": "perhaps"})
    assert (code, out) == (2, "") and err.startswith("pylaunch: error: PYLAUNCH_INIT: ")


def test_it_is_explained(container):
    code, _, err = container("--explain", "-c", "pass")
    assert code == 0
    assert "pylaunch: explain: init: process 1, which runs the program as 2\n" in err


# ------------------------------------------------------------------------------------------ how it ends


def test_exit_codes(place):
    codes = [0, 1, 2, 3, 32, 64, 126, 127, 128, 143, 254, 255]
    begun = [place.begin("-c", f"raise SystemExit({code})") for code in codes]
    assert [finish(process)[0] for process in begun] == codes


def test_death_by_a_signal_is_128_and_its_number(place):
    numbers = [
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGKILL,
        signal.SIGSEGV,
        signal.SIGABRT,
        signal.SIGRTMIN,
    ]
    die = "import os, signal; signal.signal({0}, signal.SIG_DFL) if {0} != 9 else 0; os.kill(os.getpid(), {0})"
    begun = [place.begin("-c", die.format(int(x))) for x in numbers]
    assert [finish(process)[0] for process in begun] == [128 + x for x in numbers]


def test_who_ends_otherwise(place):
    """By a traceback, by SIGINT as Python ends by it, by a fatal error, by os._exit in a thread, after execve."""
    assert place("-c", "1 / 0")[0] == 1
    assert place("-c", "raise KeyboardInterrupt")[0] == 128 + signal.SIGINT
    assert place("-c", "import os; os.abort()")[0] == 128 + signal.SIGABRT
    assert (
        place(
            "-c",
            "import os, threading as t; t.Thread(target=os._exit, args=(7,)).start(); t.Event().wait()",
        )[0]
        == 7
    )
    assert place("-c", "import os; os.execlp('sh', 'sh', '-c', 'exit 9')")[0] == 9


def test_its_end_does_not_wait_for_orphans(container):
    before = time.monotonic()
    assert (
        container(
            "-c", "import subprocess; subprocess.Popen(['sleep', '60'], start_new_session=True)"
        )[0]
        == 0
    )
    assert time.monotonic() - before < 30


def test_what_cannot_be_run_ends_it_with_stock_s_words(place):
    code, out, err = place.stock("/does/not/exist.py")
    said = err.partition(": ")[2]  # Behind Python's name.
    assert place("/does/not/exist.py")[:2] == (code, out) == (2, "")
    assert place("/does/not/exist.py")[2].partition(": ")[2] == said != ""
    assert place("-m", "does_not_exist")[0] == 1


def test_without_a_python_there_is_no_hanging_init(place):
    place.options = [*(place.options or ()), "--python", "/does/not/exist"]
    code, out, err = place("-c", "print(1)")
    assert (code, out) == (2, "") and err.startswith("pylaunch: error: "), err


@pytest.mark.parametrize("option", ["--help", "--version", "--stats"])
def test_as_process_1_it_answers_what_it_is_asked(lab, tmp_path, option):
    container = Place(lab, tmp_path, *PLACES["container"])
    code, out, err = container(option)
    assert (code, err) == (0, "") and out


PIPELINE = """
import subprocess, time
subprocess.Popen("yes oh, hi | tail & yes error | tail >&2", shell=True)
# One in a session of its own, one that SIGTERM does not reach.
subprocess.Popen(["setsid", "sleep", "60"])
subprocess.Popen("trap '' TERM; sleep 60; sleep 60", shell=True)
print("on", flush=True)
time.sleep(60)
"""


def descendants(pid: int) -> set[int]:
    return {pid}.union(*(descendants(child) for child in children(pid)))


def test_the_end_of_a_container_is_the_end_of_all_in_it(container):
    process = container.begin("-c", PIPELINE)
    assert process.stdout.readline() == b"on\n"
    init = container.init_of(process)
    # The two, a pipeline of four, of which a shell or two may be in between; and the two others.
    wait_until(lambda: len(descendants(init)) >= 9, "all of them run")
    everybody = descendants(init)
    os.kill(init, signal.SIGTERM)
    assert finish(process)[0] == 128 + signal.SIGTERM
    wait_until(lambda: not any(map(alive, everybody)), "nobody is left")


def test_elsewhere_what_the_program_has_started_lives_on(lab, tmp_path):
    """As without an init. Only the program gets the signal."""
    place = Place(lab, tmp_path, *PLACES["always"])
    program = "import subprocess, time; print(subprocess.Popen(['sleep', '60'], stdout=-3, stderr=-3).pid, flush=True); time.sleep(60)"
    process = place.begin("-c", program)
    orphan = int(process.stdout.readline())
    process.terminate()
    assert finish(process)[0] == 128 + signal.SIGTERM
    assert alive(orphan)
    os.kill(orphan, signal.SIGKILL)


def test_without_memory_for_a_child_the_program_is_process_1(lab, tmp_path):
    """As it was before there was an init, with a word on it. Of root's processes the kernel counts none."""
    stranger = [
        "setpriv",
        "--reuid=54399",
        "--regid=54399",
        "--clear-groups",
        "--bounding-set=-all",
        "--inh-caps=-all",
    ]
    limited = [*NAMESPACE, *stranger, "prlimit", "--nproc=1:1"]
    lab.need_pylaunch()
    python = "/usr/bin/python3"  # The one that pytest runs on may not be for all users.
    argv = [
        *limited,
        str(lab.pylaunch),
        "--python",
        python,
        "--cache-mode",
        "off",
        "-c",
        "import os; print(os.getpid())",
    ]
    probe = [*limited, str(lab.pylaunch), "--python", python, "--init", "never", "-c", "pass"]
    if (
        not shutil.which("setpriv")
        or subprocess.run(probe, capture_output=True, cwd="/").returncode != 0
    ):
        pytest.skip("needs root, setpriv and a Python for all users")
    done = subprocess.run(
        argv, capture_output=True, text=True, cwd="/", env=clean_environment(tmp_path)
    )
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert done.stderr.startswith("pylaunch: warning: no init: fork: ")


# ------------------------------------------------------------------------------------------ signals

# Blocked, every one stays until it is asked for. siginfo_t: number, errno, code; the value at 24.
TELL_SIGNALS = """
import ctypes, signal, sys
libc = ctypes.CDLL(None)
signal.pthread_sigmask(signal.SIG_SETMASK, range(1, 65))
every, info = (ctypes.c_ulong * 16)(*[~0] * 16), ctypes.create_string_buffer(128)
print("ready", flush=True)
while True:
    number = libc.sigwaitinfo(every, info)
    print(number, int.from_bytes(info[24:28], "little") if int.from_bytes(info[8:12], "little", signed=True) == -1 else "-", flush=True)
"""


@contextlib.contextmanager
def telling(place):
    process = place.begin("-c", TELL_SIGNALS)
    try:
        assert process.stdout.readline() == b"ready\n", process.stderr.read()
        yield process, place.init_of(process)
    finally:
        for program in children(place.init_of(process)):
            os.kill(program, signal.SIGKILL)
        assert finish(process)[0] == 128 + signal.SIGKILL


def test_every_signal_that_can_be_caught_is_passed_on(place):
    with telling(place) as (process, init):
        for number in CAUGHT:
            os.kill(init, number)
            assert process.stdout.readline() == b"%d -\n" % number
        for number in CAUGHT[::7]:  # And again.
            os.kill(init, number)
            assert process.stdout.readline() == b"%d -\n" % number


def test_queued_signals_keep_number_and_value(place):
    queue = ctypes.CDLL(None).sigqueue
    with telling(place) as (process, init):
        for value in range(50):
            assert queue(init, signal.SIGRTMIN + 3, ctypes.c_void_p(value)) == 0
        told = [process.stdout.readline() for _ in range(50)]
        assert told == [b"%d %d\n" % (signal.SIGRTMIN + 3, x) for x in range(50)]


SLEEP = "import time; print('on', flush=True); time.sleep(60)"


def test_stopping_a_container_ends_a_program_without_handler_at_once(container):
    """And without the init it does not: the kernel keeps it from process 1."""
    process = container.begin("-c", SLEEP)
    process.stdout.readline()
    before = time.monotonic()
    os.kill(container.init_of(process), signal.SIGTERM)
    assert finish(process)[0] == 128 + signal.SIGTERM
    assert time.monotonic() - before < 5

    never = Place(container.lab, container.folder, *NEVER)
    process = never.begin("-c", SLEEP)
    process.stdout.readline()
    os.kill(never.init_of(process), signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    os.kill(never.init_of(process), signal.SIGKILL)
    finish(process)


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGRTMIN"])
def test_any_signal_without_a_handler_ends_it(place, name):
    """docker kill --signal"""
    number = getattr(signal, name)
    process = place.begin("-c", SLEEP)
    process.stdout.readline()
    os.kill(place.init_of(process), number)
    assert finish(process)[0] == 128 + number


@pytest.mark.parametrize("number", [32, 33])
def test_the_c_library_s_own_signals_end_the_program_not_the_init(place, number):
    process = place.begin("-c", SLEEP)
    process.stdout.readline()
    os.kill(place.init_of(process), number)
    assert finish(process)[0] == 128 + number


def test_a_signal_while_python_starts_ends_it(container):
    process = container.begin("-c", SLEEP)
    init = container.init_of(process)
    wait_until(lambda: children(init), "the program's process")
    os.kill(init, signal.SIGTERM)
    assert finish(process)[0] == 128 + signal.SIGTERM


def test_signals_are_for_the_program_alone(container):
    """As without an init: what it has started is its own business."""
    program = """
import os, signal, subprocess, sys
child = subprocess.Popen(["sleep", "60"])
# Not print(): the main program may be inside one.
signal.signal(signal.SIGTERM, lambda *a: (os.write(1, b"polled %r\\n" % child.poll()), child.kill(), sys.exit(5)))
print("on", flush=True)
while True: signal.pause()
"""
    process = container.begin("-c", program)
    assert process.stdout.readline() == b"on\n"
    os.kill(container.init_of(process), signal.SIGTERM)
    assert finish(process)[:2] == (5, b"polled None\n")


SURROUND = """
import os, signal, subprocess, sys
for number in (signal.SIGTTOU, signal.SIGSEGV, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP, signal.SIGTSTP):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_SETMASK, (signal.SIGTTIN, signal.SIGILL, signal.SIGTERM, signal.SIGCHLD, signal.SIGRTMIN))
os.execvp(sys.argv[1], sys.argv[1:])
"""
FOUND = "print([x for x in open('/proc/self/status') if x[:6] in ('SigBlk', 'SigIgn', 'SigCgt', 'SigPnd', 'ShdPnd')])"


def test_masks_and_ignored_signals_are_those_that_were_given(place):
    around = [place.lab.python, "-c", SURROUND]
    expected = place.stock("-c", FOUND, prefix=around)
    place.prefix = [*place.prefix, *around]
    if not Path(place.prefix[0]).is_absolute():
        place.prefix[0] = shutil.which(place.prefix[0])
    assert place("-c", FOUND) == expected
    # With SIGCHLD ignored, nobody would learn how the program has ended.
    assert place("-c", "raise SystemExit(77)")[0] == 77
    assert place("-c", "import os; os.kill(os.getpid(), 9)")[0] == 128 + 9


@pytest.mark.parametrize("number", [signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU])
def test_who_stops_the_init_stops_the_program_and_both_go_on(lab, tmp_path, number):
    """Where somebody could say that they are to: their group's parent is of the same session."""
    place = Place(lab, tmp_path, *PLACES["always"])
    program = "import os, signal, time; signal.signal(signal.SIGCONT, lambda *a: os.write(1, b'continued\\n'))\nprint('on', flush=True)\nwhile True: time.sleep(60)"
    process = place.begin("-c", program, process_group=0)
    assert process.stdout.readline() == b"on\n"
    (running,) = children(process.pid)
    for _ in range(2):
        os.kill(process.pid, number)
        wait_until(lambda: {process_state(x) for x in (process.pid, running)} == {"T"}, "both stop")
        os.kill(process.pid, signal.SIGCONT)
        assert process.stdout.readline() == b"continued\n"
        wait_until(lambda: "T" not in {process_state(x) for x in (process.pid, running)}, "both go on")  # fmt: skip
    process.terminate()
    assert finish(process) == (128 + signal.SIGTERM, b"", b"")


def test_a_program_that_handles_such_a_signal_is_not_stopped(place):
    program = "import os, signal, sys\nfor n in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU): signal.signal(n, lambda n, f: os.write(1, b'%d\\n' % n))\nprint('on', flush=True)\nwhile True: signal.pause()"
    process = place.begin("-c", program)
    assert process.stdout.readline() == b"on\n"
    init = place.init_of(process)
    for number in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        os.kill(init, number)
        assert process.stdout.readline() == b"%d\n" % number
        assert process_state(init) != "T"
    os.kill(init, signal.SIGTERM)
    assert finish(process)[0] == 128 + signal.SIGTERM


# ------------------------------------------------------------------------------------------ orphans

MAKE_ORPHANS = """
import os, sys, time
def orphan(seconds):
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            time.sleep(seconds)
            os._exit(1)
        os._exit(0)
    os.wait()
def numbers():
    # pylaunch's sealer is none of ours.
    return {int(x) for x in os.listdir("/proc") if x.isdigit()}
for i in range(int(sys.argv[1])): orphan(i % 10 / 20)
"""
ALL_GONE = (
    MAKE_ORPHANS
    + """
deadline = time.monotonic() + 20
while numbers() != {1, os.getpid()}:
    if time.monotonic() > deadline: sys.exit(f"left: {[open(f'/proc/{x}/stat').read() for x in numbers()]}")
    time.sleep(0.02)
try: os.waitpid(-1, os.WNOHANG)
except ChildProcessError: print("none is mine")
sys.exit(4)
"""
)


@pytest.mark.parametrize("prefix", ["container", "container, usual start", "namespace"])
def test_orphans_are_reaped(lab, tmp_path, prefix):
    place = Place(lab, tmp_path, *PLACES[prefix])
    assert place("-c", ALL_GONE, 200) == (4, "none is mine\n", "")


def test_without_an_init_they_are_left(lab, tmp_path):
    """What test_orphans_are_reaped sees is seen where nobody reaps."""
    code, _, err = Place(lab, tmp_path, *NEVER)("-c", ALL_GONE.replace("+ 20", "+ 2"), 3)
    assert code == 1 and ") Z 1 " in err


def test_always_takes_orphans_too(lab, tmp_path):
    program = (
        MAKE_ORPHANS
        + """
if os.fork() == 0:
    if os.fork() == 0:
        while os.getppid() == first: pass
        os._exit(print(os.getppid(), flush=True) or 0)
    os._exit(0)
""".replace("while os.getppid() == first: pass", "time.sleep(0.3)")
        + "os.wait(); time.sleep(0.6); print(os.getppid())"
    )
    code, out, err = Place(lab, tmp_path, *PLACES["always"])("-c", program, 0)
    orphan_s, program_s = out.split()
    assert (code, err) == (0, "") and orphan_s == program_s


def test_children_that_were_there_before_are_reaped(container):
    """A shell that has started something becomes pylaunch."""
    container.prefix = [*container.prefix, "sh", "-c", 'sleep 0.1 & exec "$@"', "-"]
    assert container("-c", ALL_GONE, 0)[:2] == (4, "none is mine\n")


def test_a_stopped_orphan_is_nobody_s_end(container):
    program = (
        MAKE_ORPHANS.replace("time.sleep(seconds)", "os.kill(os.getpid(), 19)")
        + "time.sleep(0.2); sys.exit(6)"
    )
    assert container("-c", program, 3)[0] == 6


# ------------------------------------------------------------------------------------------ what is held


def test_the_program_finds_the_descriptors_and_the_folder_that_were_given(place):
    tell = "import os; print(os.getcwd(), sorted(os.listdir('/proc/self/fd')), os.fstat(0).st_ino, os.fstat(1).st_ino, os.read(60, 9))"
    reading, writing = os.pipe()
    os.write(writing, b"here")
    fcntl.fcntl(reading, fcntl.F_DUPFD, 60)
    with open(place.folder / "in", "w+") as stdin:
        expected = place.stock("-c", tell, stdin=stdin, pass_fds=[60])
        os.write(writing, b"here")
        found = place("-c", tell, stdin=stdin, pass_fds=[60])
    for fd in (reading, writing, 60):
        os.close(fd)
    # The pipe that it writes to is another one each time.
    assert found[1].split()[:-2] == expected[1].split()[:-2] and found[1].endswith("b'here'\n"), (
        found
    )


# RHEL 8's has no close_range(2).
OLD_KERNEL = [sys.executable, ROOT / "tests/programs/image_places/other_kernel.py", "4.18"]


@pytest.mark.parametrize("prefix", [[], ["setsid"], OLD_KERNEL], ids=["", "leader", "Linux 4.18"])
def test_whoever_waits_for_the_program_s_pipe_does_not_wait_for_the_init(lab, tmp_path, prefix):
    place = Place(lab, tmp_path, prefix, ["--init", "always"])
    program = "import os, time; os.close(1); os.close(2); os.read(0, 1)"
    process = place.begin("-c", program, stdin=subprocess.PIPE)
    ended, _, _ = select.select([process.stdout], [], [], 20)
    assert ended and process.stdout.read() == b"" and process.poll() is None
    process.stdin.write(b"x")
    assert finish(process)[0] == 0


def test_the_init_holds_nothing(container):
    process = container.begin("-c", SLEEP)
    process.stdout.readline()
    init = container.init_of(process)
    wait_until(lambda: not os.listdir(f"/proc/{init}/fd"), "no descriptor is open")
    assert os.readlink(f"/proc/{init}/cwd") == "/"
    os.kill(init, signal.SIGTERM)
    finish(process)


@serial
def test_the_init_is_small_and_sleeps(container):
    preload = [] if container.options is USUAL else ["--preload", "import json"]
    process = container.begin(*preload, "-c", SLEEP)
    process.stdout.readline()
    init = container.init_of(process)
    for number in (signal.SIGURG, signal.SIGWINCH, signal.SIGCONT) * 20:
        os.kill(init, number)
    time.sleep(0.1)
    before = status(init, "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
    time.sleep(1)
    assert status(init, "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches") == before
    lines = (x.split() for x in Path(f"/proc/{init}/smaps_rollup").read_text().splitlines()[1:])
    own = sum(int(x[1]) for x in lines if x[0] in ("Private_Clean:", "Private_Dirty:"))
    assert own < (256 if container.options is USUAL else 1024), f"{own} KiB"
    assert status(init, "Threads") == {"Threads": "1"}
    os.kill(init, signal.SIGTERM)
    finish(process)


@pytest.mark.parametrize("name", ["always", "always, leader"])
def test_an_init_that_is_killed_takes_the_program_along(lab, tmp_path, name):
    place = Place(lab, tmp_path, *PLACES[name])
    process = place.begin("-c", SLEEP)
    process.stdout.readline()
    (program,) = children(process.pid)
    process.kill()
    wait_until(lambda: not alive(program), "the program is gone, too")
    finish(process)


def test_the_program_asks_for_no_signal_at_its_parent_s_end(container):
    tell = "import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n)); print(n.value)"
    assert container("-c", tell) == (0, "0\n", "")


# ------------------------------------------------------------------------------------------ terminals


class Typist:
    """Somebody at a pseudo terminal whose session a command leads."""

    def __init__(self, place: Place, argv):
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(place.folder)
                os.execve(argv[0], argv, place.env(PS1="$ "))
            finally:
                os._exit(127)
        self.shown = b""

    def expect(self, text: str, timeout: float = 20) -> str:
        deadline = time.monotonic() + timeout
        while text.encode() not in self.shown:
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            data = b""
            if ready:
                with contextlib.suppress(OSError):
                    data = os.read(self.master, 65536)
            assert data, f"{text!r} never came: {self.shown.decode(errors='replace')!r}"
            self.shown += data
        before, _, self.shown = self.shown.partition(text.encode())
        return before.decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def code(self) -> int:
        """Reads to the end."""
        with contextlib.suppress(OSError):
            while data := os.read(self.master, 65536):
                self.shown += data
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self):
        os.close(self.master)


@pytest.fixture(params=["container", "container, usual start", "always"])
def on_terminal(request, lab, tmp_path):
    """Process 1 leads a session that has a terminal, as under `docker run -it`; and --init always in such a place."""
    options = PLACES[request.param][1]
    always = request.param == "always"
    place = Place(lab, tmp_path, [] if always else NAMESPACE, options)
    typists = []

    def sit(*args):
        typists.append((Typist if always else InContainer)(place, place.argv(*args)))
        return typists[-1]

    sit.place = place
    yield sit
    for typist in typists:
        with contextlib.suppress(OSError):
            typist.close()


class InContainer(Typist):
    """As crun(1) makes a container's terminal: process 1 becomes a session's leader, then takes the terminal."""

    def __init__(self, place: Place, argv):
        self.master, slave = pty.openpty()
        wrap = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
        at = len(NAMESPACE)
        argv = [*argv[:at], str(place.lab.python), "-c", wrap, *argv[at:]]
        self.process = subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, cwd=place.folder, env=place.env(PS1="$ ")
        )
        os.close(slave)
        self.shown = b""

    def code(self) -> int:
        with contextlib.suppress(OSError):
            while data := os.read(self.master, 65536):
                self.shown += data
        return self.process.wait(20)


OWNS = """
import os, signal, sys, termios
got = []
for number in set(range(1, 32)) - {9, 19, 17}: signal.signal(number, lambda n, f: got.append(n))
print("group", os.getpgrp() == os.getpid())
print("session", os.getsid(0) == os.getpid(), "foreground", os.tcgetpgrp(0) == os.getpgrp())
print("tty", [os.isatty(x) for x in range(3)], os.get_terminal_size().columns == os.get_terminal_size(os.open("/dev/tty", os.O_RDWR)).columns)
import time; time.sleep(0.3)
print("got", got, "end")
"""


def test_the_program_owns_the_terminal(on_terminal):
    """It leads session and foreground group, as it does without an init; nothing has told it of the handing over."""
    typist = on_terminal("-c", OWNS)
    shown = typist.expect("end")
    assert shown.count("True") == 7 and "False" not in shown, shown
    assert "got []" in shown, shown
    assert typist.code() == 0


def test_what_is_typed_arrives(on_terminal):
    typist = on_terminal(
        "-c", "import sys; print('on', flush=True); print('last', sys.stdin.read().split()[::-1])"
    )
    typist.expect("on")
    typist.type("1\n2\n3\n\x04")
    typist.expect("last ['3', '2', '1']")
    assert typist.code() == 0


def test_control_c_interrupts_once(on_terminal):
    program = """
import time
for _ in range(2):
    try: print("on", flush=True); time.sleep(1 if _ else 60)
    except KeyboardInterrupt: print("interrupt", _, flush=True)
raise KeyboardInterrupt
"""
    typist = on_terminal("-c", program)
    typist.expect("on")
    typist.type("\x03")
    typist.expect("interrupt 0")
    assert typist.code() == 128 + signal.SIGINT and b"interrupt 1" not in typist.shown


def test_a_new_size_of_the_window_is_told(on_terminal):
    program = """
import os, signal
signal.signal(signal.SIGWINCH, lambda *a: os.write(1, b"size %d %d times" % os.get_terminal_size()))
print("on", flush=True)
while True: signal.pause()
"""
    typist = on_terminal("-c", program)
    typist.expect("on")
    for columns in (99, 123):
        fcntl.ioctl(typist.master, termios.TIOCSWINSZ, struct.pack("HHHH", 31, columns, 0, 0))
        typist.expect(f"size {columns} 31 times")
    typist.type("\x1c")
    assert typist.code() == 128 + signal.SIGQUIT


def test_control_z_stops_nothing_where_nobody_could_go_on(on_terminal):
    """There is no shell above that would say `fg`. The kernel knows that, as it does without an init."""
    typist = on_terminal("-c", "print('on', flush=True); print('read', input())")
    typist.expect("on")
    typist.type("\x1a")
    time.sleep(0.2)
    typist.type("word\n")
    typist.expect("read word")
    assert typist.code() == 0


def test_a_terminal_that_goes_is_told(on_terminal):
    program = """
import os, signal
signal.signal(signal.SIGHUP, lambda *a: (open("told", "w").write("SIGHUP"), os._exit(3)))
print("on", flush=True)
while True: signal.pause()
"""
    typist = on_terminal("-c", program)
    typist.expect("on")
    typist.close()
    told = on_terminal.place.folder / "told"
    wait_until(told.exists, "the program has heard of it")
    if isinstance(typist, InContainer):
        assert typist.process.wait(20) == 3
    else:
        assert os.waitstatus_to_exitcode(os.waitpid(typist.pid, 0)[1]) == 3


@pytest.mark.skipif(not shutil.which("bash"), reason="bash: not here")
def test_a_shell_that_the_program_starts_controls_jobs(on_terminal):
    program = "import subprocess; subprocess.run(['bash', '--norc', '-i']); print('tty is', input('back? '))"
    typist = on_terminal("-c", program)
    typist.expect("$ ")
    typist.type("echo [[$-]]; sleep 60\n")
    flags = typist.expect("]]\r\n").rpartition("[[")[2]
    assert "m" in flags
    time.sleep(0.3)
    typist.type("\x1a")
    typist.expect("Stopped")
    typist.type("fg\n")
    time.sleep(0.3)
    typist.type("\x03")
    typist.expect("$ ")
    typist.type("exit\n")
    typist.expect("back? ")
    typist.type("mine\n")
    typist.expect("tty is mine")
    assert typist.code() == 0


# Under a shell, where a pipeline, Ctrl-Z and fg are the shell's business.
COUNT = """
import os, signal, time
signal.signal(signal.SIGCONT, lambda *a: os.write(1, b"continued "))
print("on", flush=True)
while not os.path.exists("enough"): time.sleep(0.02)
print("read", input())
"""


@pytest.fixture(params=["always", "namespace"])
def shell(request, lab, tmp_path):
    if not shutil.which("bash"):
        pytest.skip("bash: not here")
    place = Place(lab, tmp_path, *PLACES[request.param])
    typist = Typist(place, [shutil.which("bash"), "--norc", "--noediting", "-i"])
    typist.expect("$ ")

    def run(program, after=""):
        # What is typed is echoed, and must not be taken for what the program says.
        (place.folder / "program.py").write_text(program)
        (place.folder / "go").write_text(f"exec {shlex.join(place.argv('program.py'))}\n")
        typist.type(f"sh go{after}\n")
        return typist

    run.folder = tmp_path
    yield run
    typist.close()
    os.waitpid(typist.pid, 0)


def test_control_z_and_fg_under_a_shell(shell):
    typist = shell(COUNT)
    typist.expect("on")
    for _ in range(2):
        typist.type("\x1a")
        typist.expect("Stopped")
        typist.expect("$ ")
        typist.type("fg\n")
        typist.expect("continued")
    time.sleep(0.2)
    (shell.folder / "enough").touch()
    typist.type("word\n")
    assert "continued" not in typist.expect("read word")
    typist.expect("$ ")
    typist.type("echo code $?\n")
    typist.expect("code 0")


def test_control_c_under_a_shell_interrupts_once(shell):
    program = "import time\ntry: print('on', flush=True); time.sleep(60)\nexcept KeyboardInterrupt: time.sleep(0.5); print('once', flush=True); raise SystemExit(8)"
    typist = shell(program)
    typist.expect("on")
    typist.type("\x03")
    typist.expect("once")
    typist.expect("$ ")
    typist.type("echo code $?\n")
    typist.expect("code 8")


def test_one_in_the_background_that_reads_stops(shell):
    typist = shell("print('got', input())", after=" &")
    typist.expect("$ ")
    time.sleep(0.5)
    typist.type("\n")  # A shell tells before it asks for the next command.
    typist.expect("Stopped")
    typist.type("fg\n")
    time.sleep(0.3)
    typist.type("word\n")
    typist.expect("got word")


def test_a_pipeline_keeps_its_terminal(shell):
    """The shell's own group stays the foreground, so that its other processes can read, too."""
    typist = shell("print('on')", after=" | sh -c 'cat; read x </dev/tty; echo said $x'")
    typist.expect("on")
    typist.type("word\n")
    typist.expect("said word")


# ------------------------------------------------------------------------------------------ with the rest of pylaunch


def test_what_pylaunch_writes_is_written_when_process_1_ends(container):
    """Sealer and image are processes of their own, and the end of process 1 is the end of all."""
    for _ in range(3):
        code, out, err = container(
            "--explain", "--image", "--preload", "import json", "-c", "import decimal; print(1)"
        )
        assert (code, out) == (0, "1\n"), err
    assert archives(container.cache)
    assert "image: " in err and "made" not in err.partition("image: ")[2].partition("\n")[0], err
    assert list((container.cache / "images").iterdir())


def test_a_restored_process_is_a_child_like_any(container):
    tell = "import os; print(os.getpid(), os.getppid(), os.getsid(0))"
    command = ["--explain", "--image", "--preload", "import json", "-c", tell]
    runs = [container(*command) for _ in range(3)]
    assert [run[1] for run in runs] == ["2 1 2\n"] * 3
    process = container.begin("--image", "--preload", "import json", "-c", SLEEP)
    process.stdout.readline()
    os.kill(container.init_of(process), signal.SIGTERM)
    assert finish(process)[0] == 128 + signal.SIGTERM


def test_workers_have_an_init_before_their_supervisor(container):
    """Process 1 takes what nobody of theirs takes; the two processes that mind workers are what they are elsewhere."""
    tell = "import os, json; print(json.dumps([os.getpid(), os.getppid()]), flush=True)"
    code, out, err = container("--workers", "2", "--no-prefix", "-c", tell)
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(found) == 2, err
    assert {parent for _, parent in found} == {
        3
    }  # 1: the init, 2: who was started, 3: the supervisor.
    assert container("--workers", "2", "-c", "raise SystemExit(5)")[0] == 5


def test_workers_are_told_to_end_when_the_container_is_stopped(container):
    program = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *a: (print('told'), sys.exit(0)))\nprint('on', flush=True)\nwhile True: signal.pause()"
    process = container.begin("--workers", "2", "--no-prefix", "-c", program)
    assert [process.stdout.readline() for _ in range(2)] == [b"on\n"] * 2
    os.kill(container.init_of(process), signal.SIGTERM)
    code, out, err = finish(process)
    assert (code, out) == (0, b"told\ntold\n"), err


@pytest.mark.parametrize("killed", ["who was started", "supervisor"])
def test_workers_in_a_container_do_not_outlive_who_minds_them(container, killed):
    process = container.begin("--workers", "2", "--no-prefix", "-c", SLEEP)
    assert [process.stdout.readline() for _ in range(2)] == [b"on\n"] * 2
    (started,) = children(container.init_of(process))
    victim = started if killed == "who was started" else children(started)[0]
    os.kill(victim, signal.SIGKILL)
    assert finish(process)[0] == 128 + signal.SIGKILL


def test_an_orphan_of_a_worker_is_reaped(container):
    program = (
        MAKE_ORPHANS
        + """
deadline = time.monotonic() + 10
while len(numbers()) > 4:
    if time.monotonic() > deadline: sys.exit(f"left: {numbers()}")
    time.sleep(0.02)
"""
    )
    assert container("--workers", "1", "-c", program, 20)[0] == 0
