# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""Of the environment, an image depends on what preloading read, and on nothing else.

What a module reads is found by recording. So each way of reading has a module of its own here, and
stock tells what the program must print under another environment.
"""

import re
import subprocess
import time

import pytest
from conftest import Tree
from imaged import RACY, Imaged, has, reason, restored

# What the kernel reaps may have printed all the same, for all that is known of it.
CHILD = "import subprocess; p = subprocess.Popen(['sh', '-c', 'echo $SETTING'], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL); seen = p.stdout.read(); p.stdout.close(); p.wait()"
READS = {
    "get": "import os; seen = os.environ.get('SETTING')",
    "getenv": "import os; seen = os.getenv('SETTING', 'none')",
    "item": "import os\ntry: seen = os.environ['SETTING']\nexcept KeyError: seen = 'none'",
    "in": "import os; seen = 'SETTING' in os.environ and 'set'",
    "bytes": "import os; seen = os.environb.get(b'SETTING')",
    "getenvb": "import os; seen = os.getenvb(b'SETTING')",
    "taken": "from os import environ as e; seen = e.get('SETTING')",
    "pop": "import os; seen = os.environ.pop('SETTING', 'none')",
    "setdefault": "import os; seen = os.environ.setdefault('SETTING', 'default')",
    "c": "import ctypes; g = ctypes.CDLL(None).getenv; g.restype = ctypes.c_char_p; seen = g(b'SETTING')",
    "secure": "import ctypes; g = ctypes.CDLL(None).secure_getenv; g.restype = ctypes.c_char_p; seen = g(b'SETTING')",
    "thread": "import os, threading; seen = []; t = threading.Thread(target=lambda: seen.append(os.getenv('SETTING'))); t.start(); t.join()",
    # What is written depends on what was there.
    "set": "import os; os.environ['SETTING'] = '1'; seen = 0",
    "removed": "import os\nseen = 0\ntry: del os.environ['SETTING']\nexcept KeyError: seen = 1",
    "c_set": "import ctypes; ctypes.CDLL(None).setenv(b'SETTING', b'c', 0); seen = 0",
    "c_unset": "import ctypes; ctypes.CDLL(None).unsetenv(b'SETTING'); seen = 0",
    "cleared": "import os; os.environ.clear(); seen = 0",
    # Whoever goes through all of it has read all of it.
    "items": "import os; seen = [v for k, v in os.environ.items() if k == 'SETTING']",
    "copy": "import os; seen = os.environ.copy().get('SETTING')",
    "dict": "import os; seen = dict(os.environ).get('SETTING')",
    "names": "import os; seen = [n for n in os.environ if n.startswith('SETT')]",
    "child": "import subprocess; seen = subprocess.run(['sh', '-c', 'echo $SETTING'], stdout=subprocess.PIPE).stdout",
    "child_alone": CHILD,
    "child_list": "import subprocess; seen = subprocess.run(['printenv', 'SETTING'], stdout=subprocess.PIPE, close_fds=False).stdout",
    "child_system": "import os, subprocess, sys; subprocess.run(['true'], env={}); r, w = os.pipe(); os.set_inheritable(w, True); os.system(f'echo $SETTING >&{w}'); os.close(w); seen = open(r).read()",
    "child_copy": "import os, subprocess; seen = subprocess.run(['sh', '-c', 'echo $SETTING'], stdout=subprocess.PIPE, env=dict(os.environ, X='1')).stdout",
    "child_unseen_copy": "import posix, subprocess; seen = subprocess.run(['sh', '-c', 'echo $SETTING'], stdout=subprocess.PIPE, env=posix.environ | {b'X': b'1'}).stdout",
    "child_spawn": "import os; r, w = os.pipe(); os.set_inheritable(w, True); os.waitpid(os.posix_spawn('/bin/sh', ['sh', '-c', f'echo $SETTING >&{w}'], os.environ), 0); os.close(w); seen = open(r).read()",
    "child_forked": "import os\nr, w = os.pipe(); pid = os.fork()\nif not pid:\n os.write(w, os.environ.get('SETTING', 'none').encode()); os._exit(0)\nos.waitpid(pid, 0); os.close(w); seen = open(r).read()",
    # Has an environment of its own in the end.
    "child_before": "import os, subprocess; seen = subprocess.run(['true'], env={}, stdout=subprocess.PIPE, preexec_fn=lambda: print(os.environ.get('SETTING'), flush=True)).stdout",
    "child_before_c": "import ctypes, os; c = ctypes.CDLL(None); c.getenv.restype = ctypes.c_char_p; r, w = os.pipe(); pid = os.fork()\nif not pid: os.write(w, c.getenv(b'SETTING') or b'none'); os.execve('/bin/true', ['true'], {})\nos.waitpid(pid, 0); os.close(w); seen = open(r).read()",
    "child_s_child": "import os\nr, w = os.pipe(); pid = os.fork()\nif not pid:\n os.set_inheritable(w, True); os.system(f'echo $SETTING >&{w}'); os.execve('/bin/true', ['true'], {})\nos.waitpid(pid, 0); os.close(w); seen = open(r).read()",
    "child_of_many": "import subprocess; seen = [subprocess.run(['sh', '-c', 'echo $SETTING'], stdout=subprocess.PIPE, env=e).stdout for e in ({}, {'SETTING': '7'}, None, {})]",
    # The kernel reaps these, and tells nobody that they were.
    "reaped": "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
    + CHILD
    + "\nsignal.signal(signal.SIGCHLD, signal.SIG_DFL)",
    "reaped_c": "import ctypes\nc = ctypes.CDLL(None)\nc.signal(17, ctypes.c_void_p(1))\n"
    + CHILD
    + "\nc.signal(17, None)",
}
NO_READS = {
    "nothing": "seen = 0",
    "other": "import os; seen = os.environ.get('OTHER')",
    "set_other": "import os; os.environ['OTHER'] = '1'; seen = 0",
    # A child process that is given its whole environment has read nothing of ours.
    "child_own": "import subprocess; seen = subprocess.run(['/bin/sh', '-c', 'echo $SETTING'], stdout=subprocess.PIPE, env={'LC_ALL': 'C', 'LANG': 'C'}).stdout",
    "child_own_unset": "import subprocess; seen = [subprocess.run(['/usr/bin/env'], stdout=subprocess.PIPE, env={}, close_fds=c).stdout for c in (True, False)]",
    "child_own_preexec": "import subprocess; seen = subprocess.run(['/usr/bin/env'], stdout=subprocess.PIPE, env={}, preexec_fn=int).stdout",
    "child_own_same": "import os, subprocess; seen = subprocess.run(['/usr/bin/env'], stdout=subprocess.PIPE, env={'HOME': os.environ['HOME'], 'SETTING': '1'}).stdout",
    "child_own_spawn": "import os; seen = os.waitpid(os.posix_spawn('/bin/sh', ['sh', '-c', 'exit ${SETTING-9}'], {}), 0)[1]",
    "child_own_spawnp": "import os; seen = os.waitpid(os.posix_spawnp('sh', ['sh', '-c', 'exit ${SETTING-9}'], {}), 0)[1]",
    "child_own_fork": "import os\npid = os.fork()\nif not pid: os.execve('/bin/sh', ['sh', '-c', 'exit ${SETTING-9}'], {})\nseen = os.wait()[1]",
    "child_own_waitid": "import os\npid = os.fork()\nif not pid: os.execve('/bin/sh', ['sh', '-c', 'exit ${SETTING-9}'], {})\nseen = os.waitid(os.P_PID, pid, os.WEXITED).si_status",
    "child_own_wait3": "import os\npid = os.fork()\nif not pid: os.execve('/bin/sh', ['sh', '-c', 'exit ${SETTING-9}'], {})\nseen = os.wait3(0)[1] + (os.wait4(os.spawnve(os.P_NOWAIT, '/bin/true', ['true'], {}), 0)[1])",
    "child_own_missing": "import subprocess\ntry: subprocess.run(['/nonexistent'], env={})\nexcept OSError as e: seen = e.errno",
    "child_own_many": "import concurrent.futures as f, subprocess\nwith f.ThreadPoolExecutor(8) as pool: seen = list(pool.map(lambda i: subprocess.run(['/bin/sh', '-c', f'exit {i}'], env={}).returncode, range(64)))",
    "find_library": "import ctypes.util; seen = ctypes.util.find_library('dl')",
}
SHOW = (
    "import reader, os, ctypes; g = ctypes.CDLL(None).getenv; g.restype = ctypes.c_char_p;"
    "print(reader.seen, os.environ.get('SETTING'), g(b'SETTING'), os.environ.get('OTHER'))"
)
VALUES = ("1", "22", "", None)


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """Folders with a module `reader` each, old enough to be proved."""
    folder = tmp_path_factory.mktemp("readers")
    for name, source in (READS | NO_READS).items():
        Tree(folder / name).write({"reader.py": source + "\n"})
    for name in ("get", "items", "c"):
        Tree(folder / f"start-{name}").write({"sitecustomize.py": READS[name] + "\n"})
    Tree(folder / "start-get").write({"reader.py": "from sitecustomize import seen\n"})
    Tree(folder / "start-c").write({"reader.py": "from sitecustomize import seen\n"})
    Tree(folder / "start-items").write({"reader.py": "from sitecustomize import seen\n"})
    time.sleep(RACY)
    return folder


class Reader:
    """Runs a program behind one reader, under an environment of the test's."""

    def __init__(self, image: Imaged, folder):
        self.image, self.folder = image, folder

    def env(self, setting, **others):
        env = {"PYTHONPATH": str(self.folder), **others}
        return env if setting is None else {**env, "SETTING": setting}

    def __call__(self, setting, **others):
        return self.image("-c", SHOW, preload=["import reader"], env=self.env(setting, **others))

    def check(self, setting, **others):
        """Runs, whether from an image or not, and sees stock's output."""
        got = self(setting, **others)
        expected = self.image.stock("-c", SHOW, env=self.env(setting, **others))
        assert (got.out, got.code) == (expected.out, expected.code), got.err
        return got


@pytest.mark.parametrize("name", [*READS, "start-get", "start-items", "start-c"])
@pytest.mark.parametrize("first", VALUES[::3], ids=str)
def test_what_was_read_makes_another_image(image, readers, name, first):
    reader = Reader(image, readers / name)
    reader.image.make("-c", SHOW, preload=["import reader"], env=reader.env(first))
    assert restored(reader.check(first))
    for value in VALUES:
        if value != first:
            got = reader.check(value)
            assert not restored(got), got.err
            assert "variable SETTING" in reason(got), got.err
    # Each has its own by now.
    assert all(restored(reader.check(value)) for value in VALUES)


def test_child_processes_of_who_ignores_that_they_end(image, readers):
    wrap = ["env", "--ignore-signal=CHLD"]
    reader = Reader(image, readers / "child_alone")
    image.make("-c", SHOW, preload=["import reader"], env=reader.env("1"), wrap=wrap)
    for value, same in {"1": True, "2": False}.items():
        got = image("-c", SHOW, preload=["import reader"], env=reader.env(value), wrap=wrap)
        expected = image.stock("-c", SHOW, env=reader.env(value), wrap=wrap)
        assert (got.out, restored(got)) == (expected.out, same), got.err


@pytest.mark.parametrize("name", NO_READS)
@pytest.mark.parametrize("first", VALUES[::3], ids=str)
def test_what_was_not_read_makes_none(image, readers, name, first):
    reader = Reader(image, readers / name)
    reader.image.make("-c", SHOW, preload=["import reader"], env=reader.env(first))
    for value in VALUES:
        assert restored(reader.check(value, UNREAD=f"{value}" * 40))
    assert len(image.images()) == 1


@pytest.mark.parametrize(
    "name",
    ["PYTHONNEW", "LC_TIME", "TZ", "LD_BIND_NOW", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "LANGUAGE"],
)
def test_what_is_read_where_nobody_sees_it_always_counts(image, readers, name):
    reader = Reader(image, readers / "nothing")
    reader.image.make("-c", SHOW, preload=["import reader"], env=reader.env(None))
    why = reason(reader.check(None, **{name: "C"}))
    assert re.fullmatch(f"none for this state: variable {name} (is new|changed)", why)


def test_library_that_goes_through_the_whole_environment(image, tmp_path):
    lib = Tree(tmp_path / "lib").write(
        {
            "scan.c": "extern char** environ; int count(void) { int n = 0; while (environ[n]) ++n; return n; }",
            "reader.py": "import ctypes; seen = ctypes.CDLL(__file__.replace('reader.py', 'scan.so')).count() > 0",
        }
    )
    subprocess.run(["cc", "-shared", "-fPIC", "scan.c", "-o", "scan.so"], cwd=str(lib), check=True)
    time.sleep(RACY)
    reader = Reader(image, lib)
    reader.image.make("-c", SHOW, preload=["import reader"], env=reader.env("1"))
    assert restored(reader.check("1"))
    got = reader.check("1", UNREAD="1")
    assert reason(got) == "none for this state: variable UNREAD is new", got.err


PREFIXES = {"tqdm.auto": "TQDM_", "networkx": "NETWORKX_BACKEND_PRIORITY_", "fsspec": "FSSPEC_"}


@pytest.mark.parametrize("package", PREFIXES)
def test_known_functions_use_only_a_prefix(image, package):
    """These go through the environment (launcher/engine/environment/environ_prefixes.txt)."""
    if not has(package.partition(".")[0]):
        pytest.skip(f"no {package}")
    preload = [f"import {package}"]
    made = image.make("-c", "pass", preload=preload)
    assert "goes through" not in made.err, made.err
    assert restored(image("-c", "pass", preload=preload, env={"ANY": "1"}))
    for user, prefix in PREFIXES.items():
        got = image("-c", "pass", preload=preload, env={prefix + "X": "1"})
        assert restored(got) == (user != package), got.err


def test_copy_of_a_known_function_is_not_known(image, tmp_path):
    source = """import os
def envwrap(name):
    prefix = "TQDM_"
    return [v for k, v in os.environ.items() if k.startswith(prefix)]
seen = envwrap("tqdm")
"""
    lib = Tree(tmp_path / "lib").write({"tqdm/__init__.py": "", "tqdm/utils.py": source})
    time.sleep(RACY)
    env = {"PYTHONPATH": str(lib)}
    made = image.make("-c", "pass", preload=["import tqdm.utils"], env=env)
    assert re.search(r"wholly the same: .*utils.py:4, in a source of digest", made.err), made.err
    assert not restored(image("-c", "pass", preload=["import tqdm.utils"], env={**env, "ANY": "1"}))


def test_workers_with_a_variable_each_share_one_image(image, readers):
    """As launchers of many processes set them."""
    reader = Reader(image, readers / "get")
    reader.image.make("-c", SHOW, preload=["import reader"], env=reader.env("1", RANK="0"))
    for rank in range(1, 5):
        assert restored(reader.check("1", RANK=str(rank), SLURM_PROCID=str(rank), OTHER=str(rank)))
    assert len(image.images()) == 1
