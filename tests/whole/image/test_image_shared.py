# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""An image is made by the first start, and used by every other that nothing tells from it that preloading asked for."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from conftest import ROOT, Tree
from imaged import RACY, has, reason, restored, write_unseen

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


# ---------------------------------------------------------------------------------------------- what pylaunch itself does


def _damage(image) -> None:
    (archive,) = image.cache.glob("*.pla")
    data = bytearray(archive.read_bytes())
    data[100] ^= 1
    archive.write_bytes(data)


CHILDREN = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'pass'], check=True)"


def test_a_start_that_has_warned_makes_its_image_and_processes_of_that_warn_once(image):
    image("-c", "pass")
    _damage(image)
    made = image.make("-c", CHILDREN, preload=["import json"])
    assert len(made.warnings()) == 1 and "damaged" in made.err
    _damage(image)
    got = image("-c", CHILDREN, preload=["import json"])
    assert restored(got) and len(got.warnings()) == 1, got.err
    # A mark that is there already is not one of preloading's deeds either.
    shutil.rmtree(image.cache / "images")
    _damage(image)
    wrap = [image.python, "-c", "import ctypes, os, sys; ctypes.CDLL(None).prctl(29, 50863); os.execv(sys.argv[1], sys.argv[1:])"]  # fmt: skip
    got = image("-c", "pass", preload=["import json"], wrap=wrap)
    assert "image: being made" in got.err and not got.warnings(), got.err


@pytest.mark.parametrize("cache", ["cache", "here/below/cache"])
def test_a_cache_below_the_working_directory_is_there_before_anything_is_looked_for(image, cache):
    image.cache = image.cwd / cache
    time.sleep(RACY)
    image.make("-c", "import sys; print(sys.path[0])", preload=["import json"])
    assert restored(image("-c", "import sys; print(sys.path[0])", preload=["import json"]))


# ---------------------------------------------------------------------------------------------- who may read it


@pytest.fixture
def layer(image):
    """An image in a cache that all may read, as an image layer has it."""
    image.make("-c", "pass", preload=["import json"])
    subprocess.run(["chmod", "-R", "a+rX", image.cache], check=True)
    return image


def again(image, *options, **kwargs):
    return image(*options, "-c", "pass", preload=["import json"], **kwargs)


@pytest.mark.parametrize("mode", ["auto", "readonly", "sealed"])
def test_an_image_that_others_may_read_is_used(layer, mode):
    before = [(x.stat().st_ino, x.stat().st_mtime_ns) for x in layer.images("*.key")]
    for _ in range(2):
        assert restored(again(layer, "--cache-mode", mode))
    (key,) = layer.images("*.key")
    # Proved by its content the first time; then by its new stamps, where these may be kept.
    assert (key.stat().st_ino == before[0][0]) == (mode != "auto")
    assert key.stat().st_mode & 0o777 == 0o644
    assert len(layer.images()) == 1


@pytest.mark.parametrize("mode", ["auto", "sealed"])
@pytest.mark.parametrize("of", ["*.img", "*.key"])
@pytest.mark.parametrize("bits", [0o020, 0o002])
def test_an_image_that_others_may_write_is_not_used(layer, mode, of, bits):
    (path,) = layer.images(of)
    path.chmod(0o644 | bits)
    got = again(layer, "--cache-mode", mode)
    assert not restored(got) and ("another user" in reason(got) or "not permitted" in reason(got))


@needs_root
@pytest.mark.parametrize("of", ["*.img", "*.key"])
def test_an_image_of_another_user_is_not_used(layer, of):
    (path,) = layer.images(of)
    os.chown(path, 65534, 65534)
    assert not restored(again(layer, "--cache-mode", "sealed"))


@pytest.mark.parametrize("mode", ["auto", "sealed"])
def test_an_image_that_was_written_and_given_its_times_back_is_not_used(layer, mode):
    (img,) = layer.images()
    write_unseen(img)
    got = again(layer, "--cache-mode", mode)
    assert not restored(got) and "damaged" in reason(got), got.err


def test_tools_call_it_valid(layer):
    stats = subprocess.run([layer.lab.pylaunch, "--cache", layer.cache, "--stats", "--json"], capture_output=True, check=True, env=layer.env())  # fmt: skip
    assert b'"valid"' in stats.stdout
    verify = subprocess.run([layer.lab.pylaunch, "--cache", layer.cache, "--verify"], capture_output=True, check=False, env=layer.env())  # fmt: skip
    assert verify.returncode == 0, verify.stdout


# ---------------------------------------------------------------------------------------------- boots


def _masking(*mounts: str) -> list[str]:
    return ["unshare", "-m", "sh", "-c", "; ".join([*mounts, 'exec "$@"']), "-"]


SYS = "mount -t tmpfs none /proc/sys"


@needs_root
def test_a_boot_is_told_where_its_id_cannot_be_read(image, tmp_path):
    stat = Path("/proc/stat").read_text()
    booted = int(re.search(r"^btime (\d+)$", stat, re.M)[1])
    for name, btime in {"later": booted + 7, "unset": 86400}.items():
        (tmp_path / name).write_text(stat.replace(f"btime {booted}", f"btime {btime}"))
    image.make("-c", "pass", preload=["import json"], wrap=_masking(SYS))
    assert restored(again(image, wrap=_masking(SYS)))
    later = again(image, wrap=_masking(f"mount --bind {tmp_path}/later /proc/stat", SYS))
    assert restored(later) and "made on another host, in another boot" in later.err
    for mount in (f"mount --bind {tmp_path}/unset /proc/stat", "mount --bind /dev/null /proc/stat"):
        none = again(image, wrap=_masking(mount, SYS))
        assert reason(none).startswith("nothing tells this boot from another"), none.err
        assert "being made" not in none.err and none.code == 0


@needs_root
def test_containers_with_and_without_boot_id_leave_each_other_s_images(image):
    image.make("-c", "pass", preload=["import json"])
    assert restored(again(image, wrap=_masking(SYS)))
    image.make("-c", "pass", preload=["import json"], env={"LC_NUMBER": "1"})
    assert restored(again(image)) and restored(again(image, wrap=_masking(SYS)))


# ---------------------------------------------------------------------------------------------- ignored signals

SHOW_SIGNALS = """
import _signal, signal, subprocess, sys
own = [f"{n} {_signal.getsignal(n)}".split(" at 0x")[0] for n in range(1, 65)]
with open("/proc/self/status") as status: kernel = [x for x in status if x.startswith(("SigIgn", "SigCgt", "SigBlk"))]
child = subprocess.run(["grep", "Sig[BIC]", "/proc/self/status"], stdout=subprocess.PIPE, restore_signals=len(sys.argv) > 1).stdout
print(own, kernel, child, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
IGNORING = {
    "nothing": "",
    "a job in the background": "INT,QUIT",
    "nohup": "HUP",
    "more": "USR1,TERM,PIPE,XFSZ,RTMIN,RTMAX,WINCH",
    "others": "INT,HUP,PIPE,SEGV,ALRM",
}


def _ignoring(signals: str) -> list[str]:
    return ["env", f"--ignore-signal={signals}"] if signals else []


@pytest.mark.parametrize("made", IGNORING)
def test_a_process_ignores_what_its_starter_does_whoever_made_the_image(image, made):
    program = ("-c", SHOW_SIGNALS)
    image.make(*program, preload=["import json, signal"], wrap=_ignoring(IGNORING[made]))
    for used in IGNORING.values():
        for args in ((), ("restore",)):
            got = image(*program, *args, preload=["import json, signal"], wrap=_ignoring(used))
            expected = image.stock(*program, *args, wrap=_ignoring(used))
            assert restored(got), got.err
            assert (got.out, got.code) == (expected.out, expected.code), used
    assert len(image.images()) == 1


ASKING = {
    "getsignal": ("INT", "import signal; seen = signal.getsignal(signal.SIGINT) is signal.SIG_IGN"),
    "signal": ("TERM", "import signal; seen = signal.signal(signal.SIGTERM, signal.SIG_DFL)"),
    "handler": ("USR1", "import signal; seen = 0; signal.signal(signal.SIGUSR1, print)"),
    "ignoring": ("USR2", "import signal; seen = 0; signal.signal(signal.SIGUSR2, signal.SIG_IGN)"),
    "c": ("HUP", "import ctypes; c = ctypes.CDLL(None).signal; c.restype = ctypes.c_void_p; seen = c(1, None)"),
    "sigaction": ("QUIT", "import ctypes; b = ctypes.create_string_buffer(200); ctypes.CDLL(None).sigaction(3, None, b); seen = b.raw[0]"),
    "siginterrupt": ("ALRM", "import signal; seen = 0; signal.signal(signal.SIGALRM, print); signal.siginterrupt(signal.SIGALRM, False)"),
    "unseen": ("XCPU", "import ctypes; b = (ctypes.c_long * 5)(1, 0x04000000, 0, 0, 0); seen = ctypes.CDLL(None).syscall(13, 24, b, None, 8)"),
    "faulthandler": ("SEGV", "import faulthandler; seen = 0; faulthandler.enable()"),
    "child": ("CHLD", "import subprocess; seen = subprocess.run(['/bin/sh', '-c', 'exit 3'], env={}).returncode"),
    "site": ("INT", "from sitecustomize import seen"),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKING)
def test_a_signal_that_preloading_asked_for_counts_and_no_other(image, tmp_path, name):
    signal, source = ASKING[name]
    lib = Tree(tmp_path / "lib").write({"asking.py": source + "\n"})
    if name == "site":
        (lib / "sitecustomize.py").write_text(ASKING["getsignal"][1] + "\n")
    time.sleep(RACY)
    program = ("-c", "import asking\n" + SHOW_SIGNALS.replace("print(", "print(asking.seen, "))
    setup = {"preload": ["import asking"], "env": {"PYTHONPATH": str(lib)}}
    image.make(*program, **setup)
    for ignored, same in {"": True, "PWR,PIPE": True, signal: False, f"PWR,{signal}": True}.items():
        wrap = _ignoring(ignored)
        got = image(*program, wrap=wrap, **setup)
        expected = image.stock(*program, wrap=wrap, env=setup["env"])
        assert (got.out, got.code) == (expected.out, expected.code), (ignored, got.err)
        assert restored(got) == same, got.err
        if not same:
            assert reason(got) == f"none for this state: whether SIG{signal} is ignored changed"
    assert len(image.images()) == 2


@pytest.mark.parametrize("made", ["", "INT"])
def test_a_process_that_ignores_interrupts_ends_as_stock_does(image, tmp_path, made):
    lib = Tree(tmp_path / "lib").write(
        {"big.py": "class C:\n    def __del__(self): print('gone')\n"}
    )
    time.sleep(RACY)
    program = "import atexit, big, os, signal; c = big.C(); atexit.register(print, 'end'); os.kill(os.getpid(), signal.SIGINT); print('on')"
    setup = {"env": {"PYTHONPATH": str(lib)}}
    image.make("-c", "pass", preload=["import big"], wrap=_ignoring(made), **setup)
    for ignored in ("", "INT"):
        got = image("-c", program, preload=["import big"], wrap=_ignoring(ignored), **setup)
        expected = image.stock("-c", program, wrap=_ignoring(ignored), **setup)
        assert restored(got) and "exit: fast" in got.err, got.err
        assert (got.out, got.code) == (expected.out, expected.code)


def test_the_archive_path_ignores_what_the_starter_does(image):
    """Where a restored process cannot be resumed, Python is executed, with the signals as they were."""
    source = Path(__file__).with_name("test_image.py").read_text()
    breaks = re.search(r'^BREAKS_IF_TOLD = """(.*?)"""', source, re.M | re.S)[1]
    lib = Tree(image.folder / "lib").write({"library.py": breaks})
    time.sleep(RACY)
    program = ("-c", "import library\n" + SHOW_SIGNALS)
    env = {"PYTHONPATH": str(lib)}
    image.make(*program, preload=["import library"], env=env)
    for ignored in ("", "INT,QUIT,USR1"):
        wrap = _ignoring(ignored)
        got = image(*program, preload=["import library"], env={**env, "BREAK": "1"}, wrap=wrap)
        assert "image: cannot be resumed" in got.err
        assert got.out == image.stock(*program, wrap=wrap, env=env).out, got.err


# ---------------------------------------------------------------------------------------------- host names

ASKS_HOST_NAME = {
    "gethostname": "import socket; seen = socket.gethostname()",
    "from": "from socket import gethostname; seen = gethostname()",
    "uname": "import os; seen = os.uname().nodename",
    "number": "import os; seen = os.uname()[1]",
    "negative": "import os; seen = os.uname()[-4]",
    "unpacked": "import os\n_, seen, _, _, _ = os.uname()",
    "kept": "import os\ndef f():\n    u = os.uname()\n    return u.nodename\nseen = f()",
    "format": "import os; seen = '%s %s %s %s %s' % os.uname()",
    "posix": "from posix import uname; seen = list(uname())",
    "slice": "import os; seen = os.uname()[:2]",
    "computed": "import os; i = 1; seen = os.uname()[i]",
    "many": "import os; seen = [os.uname() for _ in range(99)][-1].nodename",
    "node": "import platform; seen = platform.node()",
    "node later": "import platform; platform.system(); seen = platform.node()",
    "platform": "import platform; seen = platform.uname()[:5]",
    "platform node": "import platform; seen = platform.uname().node",
    "c": "import ctypes; b = ctypes.create_string_buffer(99); ctypes.CDLL(None).gethostname(b, 99); seen = b.value",
    "c uname": "import ctypes; b = ctypes.create_string_buffer(999); ctypes.CDLL(None).uname(b); seen = b.raw[65:90]",
    "through C": "import functools, os; U = functools.lru_cache(os.uname); seen = U().sysname; seen = U().nodename",
    "file": "seen = open('/proc/sys/kernel/hostname').read()",
    "site": "from sitecustomize import seen",
}  # fmt: skip
ASKS_ELSE = {
    "system": "import platform; seen = platform.system(), platform.machine(), platform.release(), platform.version()",
    "many": "import platform; seen = [platform.system() for _ in range(99)]",
    "field": "import platform; seen = platform.uname().system",
    "name": "import platform; seen = platform.platform()",
    "release": "import os; seen = os.uname().release.split('.')",
    "releases": "import os; seen = [(os.uname().release, os.uname()[2], os.uname()[-1]) for _ in range(99)]",
    "number": "import os; seen = os.uname()[2], os.uname()[0], os.uname()[-1]",
    "sysconfig": "import sysconfig; seen = sysconfig.get_platform()",
    "uuid": "import uuid, platform; seen = platform._uname_cache is not None",
    "libraries": "import multiprocessing.managers, logging.handlers, asyncio, email.utils, http.server, smtplib; seen = 0",
}
if has("numpy"):
    ASKS_ELSE["numpy"] = "import numpy; seen = 0"
if has("torch"):
    ASKS_ELSE["torch"] = "import torch; seen = 0"
SHOW_HOST = "import reader, os, platform, socket; print(reader.seen, platform.node(), list(platform.uname())[:5], platform.uname(), os.uname(), socket.gethostname(), platform.uname is platform.uname, os.uname, os.uname is __import__('posix').uname)"


def _in_container(name: str) -> list[str]:
    return ["unshare", "-u", "sh", "-c", f'hostname {name}; exec "$@"', "-"]


def _hosts(image, tmp_path, source: str) -> dict[str, bool]:
    """Whether a container of another name uses the image of the first; what they print is stock's."""
    lib = Tree(tmp_path / "lib").write({"reader.py": source + "\n", "sitecustomize.py": ""})
    if "sitecustomize" in source:
        (lib / "sitecustomize.py").write_text(ASKS_HOST_NAME["node"] + "\n")
    time.sleep(RACY)
    setup = {"env": {"PYTHONPATH": str(lib)}}
    first = image.make("-c", SHOW_HOST, preload=["import reader"], wrap=_in_container("a"), **setup)
    used = {}
    for host in ("a", "container-b", "a"):
        wrap = _in_container(host)
        got = image("-c", SHOW_HOST, preload=["import reader"], wrap=wrap, **setup)
        expected = image.stock("-c", SHOW_HOST, wrap=wrap, **setup)
        assert (got.out, got.code) == (expected.out, expected.code), got.err
        used[host] = restored(got)
        if not used[host]:
            assert reason(got).endswith(("host name changed", "hostname changed")), got.err
    assert first.out.startswith(expected.out.split()[0])
    assert used["a"]
    return used


@needs_root
@pytest.mark.parametrize("name", ASKS_HOST_NAME)
def test_a_host_name_that_preloading_asked_for_is_told_no_other_host(image, tmp_path, name):
    assert not _hosts(image, tmp_path, ASKS_HOST_NAME[name])["container-b"]


@needs_root
@pytest.mark.parametrize("name", ASKS_ELSE)
def test_who_asks_for_another_field_is_of_use_on_every_host(image, tmp_path, name):
    assert _hosts(image, tmp_path, ASKS_ELSE[name])["container-b"]


ASKING_LIBRARY = """
#include <sys/utsname.h>
static struct utsname names;
__attribute__((constructor)) static void ask(void) { uname(&names); }
"""


@needs_root
@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
@pytest.mark.parametrize("listed", [True, False])
def test_a_library_that_asks_is_told_by_its_build_id(image, tmp_path, listed):
    """libcupti of a CUDA build of torch calls uname(2) when it is loaded; somebody has looked what it makes of that one."""
    text = (ROOT / "launcher/engine/libc/host_name_libraries.txt").read_text()
    build_id = re.search(r"build-id==([0-9a-f]{40})", text)[1]
    (tmp_path / "asks.c").write_text(ASKING_LIBRARY)
    flag = f"-Wl,--build-id=0x{build_id if listed else build_id[::-1]}"
    subprocess.run(["cc", "-shared", "-fPIC", flag, "-o", tmp_path / "asks.so", tmp_path / "asks.c"], check=True)  # fmt: skip
    source = f"import ctypes; ctypes.CDLL({str(tmp_path / 'asks.so')!r}); seen = 0"
    assert _hosts(image, tmp_path, source)["container-b"] == listed


def test_functions_that_preloading_keeps_are_the_module_s_own(image, tmp_path):
    source = "from os import uname\nfrom posix import uname as own\nfrom _signal import getsignal\nseen = uname(), getsignal(2)\n"
    lib = Tree(tmp_path / "lib").write({"reader.py": source})
    program = "import reader, os, pickle, posix, _signal; print(reader.uname is os.uname is posix.uname is reader.own, reader.getsignal is _signal.getsignal, pickle.loads(pickle.dumps(reader.uname)) is os.uname, os.uname, _signal.getsignal.__text_signature__)"
    time.sleep(RACY)
    setup = {"preload": ["import reader"], "env": {"PYTHONPATH": str(lib)}}
    runs = [image.make("-c", program, **setup), image("-c", program, **setup)]
    expected = image.stock("-c", program, env=setup["env"]).out
    assert restored(runs[1]) and expected.startswith("True True True")
    assert [run.out for run in runs] == [expected] * 2


def test_a_process_that_knows_its_system_runs_nothing_to_know_more(image):
    """platform.uname()'s result is true or false by its length, for which it runs uname(1)."""
    program = "import platform, resource; print(vars(platform.uname()), resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt)"
    preload = ["import platform", "call platform:system"]
    image.make("-c", program, preload=preload)
    got = image("-c", program, preload=preload)
    assert restored(got) and got.out == image.stock("-c", program).out == "{} 0\n"


# ---------------------------------------------------------------------------------------------- the program's own file

GETMODULE = "import inspect\nseen = inspect.getmodule(inspect.currentframe()).__name__, inspect.getmodule(inspect.Signature)\n"
PROGRAM = "import inspect, reader\ndef f(): pass\nprint(reader.seen, inspect.getmodule(f), inspect.getmodule(f) is not None, inspect.getsourcefile(f), __file__, %r)\n"


@pytest.fixture
def programs(image, tmp_path):
    """Programs in the working directory, of which `edited` is younger than what can be proved."""
    Tree(tmp_path / "lib").write({"reader.py": GETMODULE, "asks.py": "import inspect, sys\nfrom reader import seen\nseen = seen, inspect.getfile(sys.modules['__main__'])\n"})  # fmt: skip
    for name in ("edited", "other"):
        (image.cwd / f"{name}.py").write_text(PROGRAM % name)
    time.sleep(RACY)
    (image.cwd / "edited.py").write_text(PROGRAM % "edited again")
    image.setup = {"env": {"PYTHONPATH": str(tmp_path / "lib")}}
    return image


def test_a_preload_that_looks_for_modules_by_their_files_does_not_depend_on_the_program(programs):
    """As torch does when it is imported."""
    preload, setup = ["import reader"], programs.setup
    programs.make("edited.py", preload=preload, **setup)
    (programs.cwd / "edited.py").write_text(PROGRAM % "edited a third time")
    for program in ("edited.py", "other.py", "./edited.py", programs.cwd / "other.py"):
        got = programs(program, preload=preload, **setup)
        expected = programs.stock(program, **setup)
        assert restored(got) and (got.out, got.code) == (expected.out, expected.code), got.err


def test_who_asks_inspect_for_the_program_s_file_has_asked_for_its_name(programs):
    preload, setup = ["import asks"], programs.setup
    for program in ("edited.py", "other.py"):
        (programs.cwd / program).write_text("import asks\nprint(asks.seen)\n")
    time.sleep(RACY)
    programs.make("edited.py", preload=preload, **setup)
    for program, same in {"edited.py": True, "other.py": False}.items():
        got = programs(program, preload=preload, **setup)
        expected = programs.stock(program, **setup)
        assert (got.out, got.code) == (expected.out, expected.code), got.err
        assert restored(got) == same, got.err
