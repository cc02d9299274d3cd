# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""Images where little is allowed: containers, strangers, odd mounts, limits; and nothing is left behind."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from conftest import ROOT, Tree, finish, start
from imaged import PRELOADS, PYTHON, RACY, Imaged, has, reason, restored

PLACES = ROOT / "tests/programs/image_places"
NUMPY = ["import numpy"] if has("numpy") else []
# Nobody's, nor that of another pytest on this machine (scripts/test-pythons has several at once): what belongs to it was made here.
STRANGER = 54_321 + os.getpid()

WORK = """
import os, subprocess, sys, threading, time
print([sum(range(n)) for n in range(5)], sys.argv)
done = []; thread = threading.Thread(target=done.append, args=(1,)); thread.start(); thread.join(); print(done)
print(subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True).stdout)
child = os.fork()
if child == 0: os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), os.getuid(), os.path.exists("/proc/self/maps"))
"""
CALCULATE = (
    "import numpy; a = numpy.arange(10000.).reshape(100, 100); print(float((a @ a.T).sum()))\n"
)
CALCULATE = CALCULATE if NUMPY else ""


def command_works(*argv) -> bool:
    if shutil.which(argv[0]) is None:
        return False
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def needs(*argv):
    return pytest.mark.skipif(not command_works(*argv), reason=f"{argv[0]}: not here")


own_mounts = needs("unshare", "--mount", "true")
own_processes = needs("unshare", "--mount", "--pid", "--fork", "--mount-proc", "true")


def same_in(image: Imaged, wrap, preload=(), before=None, program=WORK) -> None:
    """The program does in a place what stock does there, when the image is made there and when it is used."""
    expected = image.stock("-c", program, "a", wrap=wrap)
    assert expected.code == 0, expected.err
    made = image("-c", program, "a", preload=preload, wrap=wrap if before is None else before)
    assert image.images(), (made.err, [x.read_text() for x in image.images("*.note")])
    used = image("-c", program, "a", preload=preload, wrap=wrap)
    assert restored(used), used.err
    assert (used.code, used.out) == (expected.code, expected.out), used.err
    assert used.without_pylaunch_lines().err == expected.err
    assert before is not None or made.out == expected.out


@pytest.fixture
def image(lab, tmp_path) -> Imaged:
    lab.need_pylaunch()
    return Imaged(lab, tmp_path / "image")


# ---------------------------------------------------------------------------------------------- containers


def under_docker(forbidden: str) -> list[str]:
    script = PLACES / "under_docker_seccomp.py"
    wrap = [PYTHON, str(script), forbidden]
    if not command_works(*wrap, "true"):
        pytest.skip("no seccomp filters here")
    return wrap


def test_seccomp_filter_forbids_something():
    wrap = under_docker("kill")
    unshare = "import ctypes; print(ctypes.CDLL(None).unshare(0x10000000))"
    assert subprocess.call([*wrap, PYTHON, "-c", unshare]) == -signal.SIGSYS
    wrap = under_docker("errno")
    assert subprocess.check_output([*wrap, PYTHON, "-c", unshare]) == b"-1\n"


@pytest.mark.parametrize("forbidden", ["errno", "kill"])
@pytest.mark.parametrize("made", ["there", "outside"])
def test_under_docker_s_seccomp_profile(image, forbidden, made):
    """`kill`: neither making an image nor starting from it so much as tries what the profile forbids."""
    wrap = under_docker(forbidden)
    numpy = forbidden == "errno"  # OpenBLAS tries mbind(2), and does without.
    program = WORK + CALCULATE if numpy else WORK
    before = () if made == "outside" else None
    same_in(image, wrap, preload=NUMPY if numpy else [], before=before, program=program)


@own_processes
@pytest.mark.parametrize("init", ["never", ""], ids=["process 1", "child of the init"])
def test_first_process_of_a_container(image, init):
    """Number 1 inherits orphans, and every start has the same number, 1 or the init's first child's."""
    wrap = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    wrap += ["env", f"PYLAUNCH_INIT={init}"]
    number = "os.getpid()" if init else "os.getpid() < 3"
    program = WORK + CALCULATE + f"print({number}, os.listdir('/proc').count('1'))\n"
    program += (
        "try: print(os.waitpid(-1, os.WNOHANG))\nexcept ChildProcessError: print('no child')\n"
    )
    same_in(image, wrap, preload=NUMPY, program=program)


DRAWS = """
import os, random, ssl, uuid, tempfile, multiprocessing.synchronize
print(os.getpid(), random.random(), uuid.uuid4(), tempfile.mktemp(), multiprocessing.synchronize.SemLock._make_name())
print(ssl.RAND_bytes(8).hex())
"""


@own_processes
def test_what_goes_by_the_process_number_differs_in_containers(image):
    """The image's first process has made names, too, under the number that all have."""
    wrap = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    # Whoever draws from the system itself is late (test_image_random.py).
    drawn = DRAWS.replace("uuid.uuid4()", "uuid.NAMESPACE_DNS").replace("print(", "keep(")
    drawn = f"kept = []\ndef keep(*drawn): kept.append(drawn)\n{drawn}"
    lib = Tree(image.folder / "lib").write({"drawn.py": drawn})
    time.sleep(RACY)
    env = {"PYTHONPATH": str(lib)}
    image("-c", DRAWS, preload=["import drawn"], wrap=wrap, env=env)
    runs = [image("-c", DRAWS, preload=["import drawn"], wrap=wrap, env=env) for _ in range(3)]
    assert all(restored(run) for run in runs), runs[0].err
    drawn = [word for run in runs for word in run.out.split()]
    assert drawn.count("2") == 3 and len(set(drawn)) == 16, drawn


# In none of the groups of systemd.exec(5) that @system-service includes, so that a filter made of it kills who makes one.
FORBIDDEN_TO_SERVICES = "modify_ldt,get_mempolicy,keyctl,kcmp,ptrace,userfaultfd,bpf,perf_event_open,iopl,ioperm,process_vm_readv"


@pytest.mark.skipif(not command_works("strace", "true"), reason="strace: not here")
def test_no_call_is_made_that_filters_of_services_kill_for(image, tmp_path):
    log = tmp_path / "calls"
    for run in range(2):
        wrap = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={FORBIDDEN_TO_SERVICES}"]
        wrap += ["-e", "signal=none"]
        done = image("-c", "pass", preload=["import json"], wrap=wrap)
        assert restored(done) == (run == 1), done.err
        assert log.read_text() == ""


# ---------------------------------------------------------------------------------------------- rights and mounts


class Stranger:
    """An ordinary user without any rights, and where it may write; its Python must be for all users."""

    def __init__(self, lab, folder: Path):
        self.wrap = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"]
        self.wrap += ["--bounding-set=-all", "--inh-caps=-all"]
        self.image = Imaged(lab, folder / "image")
        self.image.python = next(filter(self._can_run, (PYTHON, "/usr/bin/python3")), None)
        for path in (folder, self.image.folder, self.image.cwd):
            os.chown(path, STRANGER, STRANGER)

    def _can_run(self, python: str) -> bool:
        start = [self.image.lab.pylaunch, "--python", python, "--cache-mode=off", "-c", "pass"]
        return Path(python).exists() and command_works(*self.wrap, *map(str, start))


@pytest.fixture
def stranger(lab):
    lab.need_pylaunch()
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv to become somebody else")
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are root's.
    folder.chmod(0o755)
    stranger = Stranger(lab, folder)
    if stranger.image.python is None:
        pytest.skip("no Python here is for other users to run")
    yield stranger
    shutil.rmtree(folder)


@pytest.mark.parametrize("more", [[], ["--no-new-privs"]], ids=["plain", "no new privileges"])
def test_without_any_capability(stranger, more):
    program = WORK + "print([x for x in open('/proc/self/status') if x[:3] in ('Cap', 'NoN')])"
    same_in(stranger.image, [*stranger.wrap, *more], program=program)


def test_a_user_without_capabilities_may_be_bounded_otherwise(stranger):
    """As Kubernetes drops ALL where a layer's build had Docker's. What counts is that there are none."""
    bounded = stranger.wrap
    unbounded = [x for x in bounded if not x.startswith("--bounding-set")]
    program = WORK + "print([x for x in open('/proc/self/status') if x[:3] == 'Cap'])"
    same_in(stranger.image, bounded, before=unbounded, program=program)


@own_processes
def test_other_processes_are_hidden(stranger):
    hide = 'mount -t proc -o hidepid=2 proc /proc || exit 99; "$@"; exit $?'
    wrap = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", hide, "-", *stranger.wrap]
    program = WORK + "print(os.path.exists('/proc/1'), os.path.exists(f'/proc/{os.getpid()}'))"
    same_in(stranger.image, wrap, program=program)
    assert stranger.image.stock("-c", program, wrap=wrap).out.endswith("False True\n")


CALLBACK = """
import ctypes
kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
twice = kind(lambda x: 2 * x)  # libffi makes code for it.
"""


@own_mounts
def test_cache_on_a_file_system_that_runs_nothing(image, tmp_path):
    lib = Tree(tmp_path / "lib").write({"callback.py": CALLBACK})
    time.sleep(RACY)
    mount = 'mount -t tmpfs -o noexec,nosuid,nodev,mode=700 tmpfs "$0" || exit 99; "$@" 2>&1 && exec "$@"'
    image.cache.mkdir()
    again = image(
        *("-c", "import callback; print('it', callback.twice(21))"),
        preload=["import callback", *NUMPY],
        env={"PYTHONPATH": str(lib)},
        wrap=["unshare", "--mount", "sh", "-c", mount, str(image.cache)],
    )
    assert "image: being made" in again.out, again
    assert restored(again) and again.out.endswith("it 42\n"), again
    assert not image.images("*")  # It was on the other mount, indeed.


TWIN = """
import ctypes, os
library = ctypes.CDLL(os.path.join(os.path.dirname(__file__), "counter.so"))
library.up()
"""
BY_ANOTHER_PATH = """
import ctypes, os, twin
again = ctypes.CDLL(os.path.join(os.path.dirname(twin.__file__), "alias.so"))
print(again.up(), twin.library.up())
"""


@pytest.fixture
def two_mounts(tmp_path):
    """Of one overlay, as two containers of one container image have them; and where each is to be bound."""
    folders = {
        name: tmp_path / name for name in ("lower", "root", "u0", "w0", "m0", "u1", "w1", "m1")
    }
    for folder in folders.values():
        folder.mkdir()
    (tmp_path / "counter.c").write_text("static int count; int up(void) { return ++count; }")
    library = folders["lower"] / "counter.so"
    subprocess.check_call(["cc", "-shared", "-fPIC", tmp_path / "counter.c", "-o", library])
    (folders["lower"] / "alias.so").symlink_to("counter.so")
    (folders["lower"] / "twin.py").write_text(TWIN)
    mounted = []
    try:
        for at in "01":
            layers = f"lowerdir={folders['lower']},upperdir={folders['u' + at]},workdir={folders['w' + at]}"
            mount = ["mount", "-t", "overlay", "-o", layers, "overlay", folders["m" + at]]
            if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
                pytest.skip("no overlay can be mounted here")
            mounted.append(folders["m" + at])
        assert mounted[0].stat().st_dev != mounted[1].stat().st_dev
        time.sleep(RACY)
        yield mounted, folders["root"]
    finally:
        for folder in mounted:
            subprocess.check_call(["umount", folder])


@own_mounts
def test_two_mounts_of_one_overlay_share_an_image(image, two_mounts):
    """And a library that was loaded from the one is the other's, too: no second path loads it twice."""
    mounts, root = two_mounts

    def start_in(mount):
        bind = 'mount --bind "$0" "$1" && shift && exec "$@"'
        wrap = ["unshare", "--mount", "sh", "-c", bind, str(mount), str(root)]
        return {"wrap": wrap, "env": {"PYTHONPATH": str(root)}}

    expected = image.stock("-c", BY_ANOTHER_PATH, **start_in(mounts[0]))
    assert expected.out == "2 3\n", expected.err
    image.make("-c", BY_ANOTHER_PATH, preload=["import twin"], **start_in(mounts[0]))
    for mount in (mounts[1], mounts[0]):
        used = image("-c", BY_ANOTHER_PATH, preload=["import twin"], **start_in(mount))
        assert restored(used), used.err
        assert used.without_pylaunch_lines() == expected, used.err
    changed = mounts[1] / "twin.py"
    changed.write_text(TWIN.replace("library.up()", "library.up(), library.up()"))
    used = image("-c", BY_ANOTHER_PATH, preload=["import twin"], **start_in(mounts[1]))
    assert used.out == "3 4\n" and "twin.py changed" in used.err, used.err


LIMITED = """
import os
def limit():
    with open("/sys/fs/cgroup/cpu.max") as file: return file.read().split()
LIMIT = limit()
DRIVER = os.path.exists("/sys/fs/driver")
USED = open("/sys/fs/cgroup/memory.current").read(), open("/proc/uptime").read(), open("/proc/self/stat").read()
"""


@own_mounts
def test_limits_of_a_control_group_are_those_of_this_start(image, tmp_path):
    """And which drivers are there. What the kernel counts is another at each start, and asks for no new image."""
    lib = Tree(tmp_path / "lib").write({"limited.py": LIMITED})
    time.sleep(RACY)
    mount = 'mount -t tmpfs tmpfs /sys/fs && cd /sys/fs && mkdir cgroup && for file in $0; do printf "%s\\n" $$ >cgroup/memory.current; '
    mount += 'case $file in driver) touch driver;; *) echo "$file" 100000 >cgroup/cpu.max;; esac; done && cd "$OLDPWD" && exec "$@"'

    def run(start, at, **kwargs):
        program = "import limited; print(limited.LIMIT, limited.limit(), limited.DRIVER)"
        wrap = ["unshare", "--mount", "sh", "-c", mount, at]
        return start("-c", program, env={"PYTHONPATH": str(lib)}, wrap=wrap, **kwargs)

    why = {"200000": "cpu.max", "100000 driver": "driver"}
    for at in ("100000", "200000", "100000 driver"):
        expected = run(image.stock, at)
        assert expected.code == 0, expected.err
        made = run(image, at, preload=["import limited"])
        assert made.out == expected.out, made.err
        assert not restored(made)
        assert at not in why or f"{why[at]} changed" in made.err, made.err
        again = run(image, at, preload=["import limited"])
        assert restored(again), again.err
        assert again.out == expected.out


@own_mounts
@pytest.mark.parametrize("zone", [None, ":{}/zone", "{}/zone"])
def test_another_time_zone_in_the_same_file(image, tmp_path, zone):
    """As `timedatectl set-timezone` and new versions of the zones leave it, without another boot or variable."""
    zones = Path("/usr/share/zoneinfo")
    if not (zones / "America/New_York").exists():
        pytest.skip("no time zones here")
    env = {"TZ": zone.format(tmp_path)} if zone else {}
    program = "import time, datetime; print(time.tzname, time.timezone, time.localtime(0)[:6], datetime.datetime.fromtimestamp(0).astimezone())"

    def in_zone(name):
        if zone:
            new = tmp_path / "new"
            shutil.copy(zones / name, new)
            new.replace(tmp_path / "zone")
            time.sleep(RACY)
            return []
        mount = 'mount --bind "$0" /etc/localtime && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", mount, str(zones / name)]

    for name in ("America/New_York", "Asia/Kolkata"):
        wrap = in_zone(name)
        expected = image.stock("-c", program, env=env, wrap=wrap)
        assert expected.code == 0, expected.err
        for _ in range(2):
            got = image("-c", program, preload=["import datetime"], env=env, wrap=wrap)
            assert got.out == expected.out, got.err
        assert restored(got), got.err


def test_limits(image):
    """What has no room under a limit does what stock does there; an image is for whoever has the room."""
    work = WORK.replace("sys.executable", repr(PYTHON))  # It can be a pylaunch that is installed.
    limits = "import resource; print([resource.getrlimit(x) for x in range(10)])"
    program = work + CALCULATE + limits
    image.make("-c", "pass", preload=NUMPY)
    wrong = []
    for limit in LIMITS:
        wrap = ["bash", "-c", f'ulimit {limit}; exec "$@"', "-"]
        expected = image.stock("-c", program, wrap=wrap)
        for _ in range(2):
            got = image("-c", program, preload=NUMPY, wrap=wrap).without_pylaunch_lines()
            if got != expected:
                wrong.append((limit, expected, got))
    assert not wrong
    assert not [x for x in image.cache.rglob("*") if ".tmp" in x.name]


OWN_LIMITS = """
import os, resource, sys
which, limit, size = eval(sys.argv[1])
def run():
    if which is not None: resource.setrlimit(getattr(resource, which), (limit << 20,) * 2)
    print(len(bytearray(size << 20)), flush=True)
run()
child = os.fork()
if child == 0:
    run()
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow  # 5 s each.
@pytest.mark.parametrize(
    "ulimit, own",
    [("-v 1600000", (None, 0, 1024)), ("-d 1600000", (None, 0, 1024))]
    + [
        ("-c 0", x)
        for x in [("RLIMIT_AS", 512, 100), ("RLIMIT_DATA", 512, 100), ("RLIMIT_AS", 2048, 1200)]
    ],
)
def test_address_space_that_is_limited_is_the_program_s(image, ulimit, own):
    """By its starter, or by itself."""
    wrap = ["bash", "-c", f'ulimit {ulimit}; exec "$@"', "-"]
    run = ["-c", OWN_LIMITS, repr(own)]
    image.make("-c", "pass", preload=["import json"])
    expected = image.stock(*run, wrap=wrap)
    assert expected.code == 0, expected.err
    for _ in range(2):
        got = image(*run, preload=["import json"], wrap=wrap)
        assert got.without_pylaunch_lines() == expected, got.err
    assert restored(got), got.err


RECURSION = """
#include <alloca.h>
#include <string.h>
int deep(int n) { volatile char frame[1 << 16]; memset((char*)frame, n, sizeof frame); return n == 0 ? frame[0] : deep(n - 1) + frame[n]; }
"""


@pytest.mark.parametrize("raised", [None, 64 << 20, 512 << 20])
def test_the_stack_grows_as_far_as_the_limit_says(image, tmp_path, raised):
    """Recursion in C, up to just below RLIMIT_STACK and beyond it; the program may have raised it."""
    (tmp_path / "deep.c").write_text(RECURSION)
    library = tmp_path / "deep.so"
    subprocess.check_call(["cc", "-O0", "-shared", "-fPIC", tmp_path / "deep.c", "-o", library])
    limit = f"resource.setrlimit(resource.RLIMIT_STACK, ({raised}, -1))" if raised else "pass"
    bytes_of = raised or 8 << 20
    wrap = ["bash", "-c", 'ulimit -S -s 8192; exec "$@"', "-"]
    for share, code in ((0.9, 0), (1.1, -signal.SIGSEGV)):
        depth = int(bytes_of * share) >> 16
        program = f"import ctypes, resource; {limit}; ctypes.CDLL({str(library)!r}).deep({depth}); print('came back')"
        expected = image.stock("-c", program, wrap=wrap)
        assert expected.code == code, expected.err
        for _ in range(2):
            got = image("-c", program, preload=["import ctypes"], wrap=wrap)
            assert got.without_pylaunch_lines() == expected, got.err
        assert restored(got), got.err


LIMITS = ["-n 8", "-n 24", "-v 500000", "-v 1000000", "-s 1024", "-S -s 4096", "-s unlimited", "-c 0", "-f 0", "-f 100", "-l 0"]  # fmt: skip


# ---------------------------------------------------------------------------------------------- streams and signals

TELLING = """
import os, signal, sys
if len(sys.argv) > 1:
    with open(sys.argv[1], "w") as out:
        print([None if s is None else (s.fileno(), s.mode, s.isatty(), s.line_buffering) for s in (sys.stdin, sys.stdout, sys.stderr)], file=out)
        print([str(signal.getsignal(n)) for n in sorted(signal.valid_signals())], file=out)
        print(sorted(os.listdir("/proc/self/fd")), signal.pthread_sigmask(signal.SIG_BLOCK, []), file=out)
    with open(sys.argv[1] + ".exe", "w") as out: out.write(os.readlink("/proc/self/exe"))
print("shown"); print("told", file=sys.stderr)
"""
SITUATIONS = {
    "nohup": 'exec nohup "$@"',
    "no stdin": 'exec "$@" <&-',
    "no stdout": 'exec "$@" >&-',
    "no stderr": 'exec "$@" 2>&-',
    "none": 'exec "$@" <&- >&- 2>&-',
    "others open": 'exec "$@" 7</dev/null 9>/dev/null',
    "background": 'trap "" INT QUIT; exec "$@"',
    "blocked signals": f"exec {PYTHON} -c 'import os, signal, sys; signal.pthread_sigmask(0, [10, 12, 17]); os.execv(sys.argv[1], sys.argv[1:])' \"$@\"",
    "session of its own": 'exec setsid --wait "$@"',
    "umask": 'umask 0; exec "$@"',
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_streams_and_signals_are_the_starter_s(image, situation):
    wrap = ["bash", "-c", SITUATIONS[situation], "-"]
    out = image.cwd / "out"

    def told(run, **kwargs):
        out.unlink(missing_ok=True)
        result = run("-c", TELLING, out, wrap=wrap, **kwargs).without_pylaunch_lines()
        return result, out.read_text()

    expected = told(image.stock)
    for runs in ("pylaunch-restore", "python"), ("pylaunch-restore",):
        assert told(image) == expected
        assert Path(f"{out}.exe").read_text().rpartition("/")[2].startswith(runs)


# ---------------------------------------------------------------------------------------------- debris


def of_stranger() -> list[str]:
    """What the stranger has in the places where programs leave things, and its processes."""
    found = []
    for place in ("/tmp", "/var/tmp", "/dev/shm", "/run", "/dev/mqueue"):
        for folder, folders, files in os.walk(place, onerror=None):
            for name in [*folders, *files]:
                path = os.path.join(folder, name)
                with contextlib.suppress(OSError):
                    if os.lstat(path).st_uid == STRANGER:
                        found.append(path)
            if folder == "/tmp":
                folders.clear()
    for kind in ("msg", "sem", "shm"):
        head, *lines = Path("/proc/sysvipc", kind).read_text().splitlines()
        at = head.split().index("uid")
        found += [f"{kind} {line}" for line in lines if int(line.split()[at]) == STRANGER]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.stat().st_uid == STRANGER:
                found.append(f"{process} {(process / 'comm').read_text()}")
    return sorted(found)


def test_nothing_is_left_behind(stranger):
    image, wrap = stranger.image, stranger.wrap
    before = of_stranger()
    image.make("-c", "pass", wrap=wrap)
    for _ in range(20):
        assert restored(image("-c", WORK, wrap=wrap))
    assert of_stranger() == before
    assert [x.suffix for x in image.images("*")] == [".digests", ".img", ".key"]
    kinds = {x.name.partition(".pla")[1:] for x in image.cache.iterdir() if x.is_file()}
    assert kinds <= {(".pla", ""), (".pla", ".lock")}


# ---------------------------------------------------------------------------------------------- many at once


def private_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(x) for x in re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB$", text, re.M))


@pytest.mark.slow  # 5 s each.
@pytest.mark.parametrize("name", [x for x in PRELOADS if x == "plain" or has(x)][:3])
def test_eight_at_once_share_their_memory(image, name, record_property):
    """Each does what stock does, and has less memory of its own than a process of stock's."""
    preload = PRELOADS[name]
    idle = (
        "\n".join(preload)
        + "\nimport sys; print(len(sys.argv), flush=True); print(sys.stdin.read())"
    )

    def private(argv, count: int) -> list[int]:
        """Of `count` processes that run at the same time, once all of them are idle."""
        crowd = [
            start(argv, image.env(), image.cwd, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
            for _ in range(count)
        ]
        for process in crowd:
            assert process.stdout.readline() == b"1\n"
        sizes = [private_kib(process.pid) for process in crowd]
        assert [finish(process, b"end") for process in crowd] == [(0, b"end\n", b"")] * count
        return sizes

    image.make("-c", "pass", preload=preload)
    stock = private([PYTHON, "-c", idle], 2)
    ours = private(image.argv("-c", idle, preload=preload, explain=False), 8)
    assert restored(image("-c", "pass", preload=preload))
    record_property("private_kib", {"stock": stock, "restored": ours})
    print(f"{name}: KiB of its own: stock {stock}, restored {ours}")
    assert max(ours) < min(stock)


# ---------------------------------------------------------------------------------------------- preload files


def test_where_an_entry_stands_is_no_part_of_the_key(image, tmp_path):
    """Name of the file, its comments, the spelling of a line: messages name them, and are this start's."""
    mine = "import os, traceback\nstack = [f.filename for f in traceback.extract_stack()]\nos.environ.get('A_SETTING')\n"
    tree = Tree(tmp_path / "tree").write(
        {
            "mine.py": mine,
            "train.py": "import os, mine\nprint(mine.stack)\nos.environ['A_SETTING'] = '1'\n",
            "configs.txt": "import mine\nimport wave\n",
            "other.txt": "# A comment.\n\nmine   # Another.\n  import   wave\n",
        }
    )
    time.sleep(RACY)
    image.cwd = tmp_path / "tree"
    image.make(tree / "train.py", preload=["configs.txt"])
    for preload, env, place in (
        (["./configs.txt"], {}, "./configs.txt:1"),
        ([str(tree / "configs.txt")], {}, f"{tree}/configs.txt:1"),
        (["other.txt"], {}, "other.txt:3"),
        (["import mine", "wave"], {}, "--preload"),
        ([], {"PYLAUNCH_PRELOAD": "other.txt"}, "other.txt:3"),
    ):
        got = image(tree / "train.py", preload=preload, env=env)
        assert restored(got), got.err
        off = image.argv("--cache-mode=off", tree / "train.py", preload=preload, explain=False)
        plain = subprocess.run(
            off, env=image.env(env), cwd=image.cwd, capture_output=True, text=True
        )
        assert (got.code, got.out) == (plain.returncode, plain.stdout) and "mine.py" in got.out
        (warning,) = got.warnings()
        assert f"({place})" in warning and [warning] == plain.stderr.splitlines()
    assert len(image.images()) == 1
    for preload in (["wave", "mine"], ["mine"], ["optional mine", "wave"], ["A=1 mine", "wave"]):
        assert reason(image(tree / "train.py", preload=preload)) == "none yet"


def test_a_late_entry_that_breaks_is_named_by_where_it_stands_now(image, tmp_path):
    leaver = "import os, threading, time\nif os.path.exists('broken'): raise OSError('broken')\nthreading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n"
    tree = Tree(tmp_path / "tree").write(
        {"leaver.py": leaver, "train.py": "", "one.txt": "import leaver\n", "two.txt": "\nleaver\n"}
    )
    time.sleep(RACY)
    image.cwd = tmp_path / "tree"
    image(tree / "train.py", preload=["one.txt"])
    image.make(tree / "train.py", preload=["one.txt"])
    got = image(tree / "train.py", preload=["two.txt"])
    assert restored(got) and "imported late: two.txt:2:1: 'leaver' left a thread" in got.err
    (tree / "broken").touch()
    got = image(tree / "train.py", preload=["two.txt"])
    assert restored(got) and got.code == 1
    assert "error: two.txt:2:1: required entry 'leaver' did not load" in got.err


def test_a_variable_of_ours_counts_if_preloading_asked_for_it(image, tmp_path):
    Tree(tmp_path / "tree").write(
        {"mine.py": "import os\nseen = os.environ.get('PYLAUNCH_PRELOAD')\n", "one.txt": "mine\n"}
    )
    time.sleep(RACY)
    image.cwd = tmp_path / "tree"
    program = ("-c", "import mine; print(mine.seen)")
    image.make(*program, env={"PYLAUNCH_PRELOAD": "one.txt"})
    got = image(*program, env={"PYLAUNCH_PRELOAD": "one.txt", "PYLAUNCH_CACHE_SIZE": "1GiB"})
    assert restored(got) and got.out == "one.txt\n"
    got = image(*program, env={"PYLAUNCH_PRELOAD": "./one.txt"})
    assert got.out == "./one.txt\n"
    assert reason(got) == "none for this state: variable PYLAUNCH_PRELOAD changed"
