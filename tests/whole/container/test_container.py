# ruff: noqa: E501 - programs in strings read better on long lines.
"""`ENTRYPOINT ["pylaunch", "--preload", "/app/configs.txt"]`, with archive and image built in a layer: right, silent, warm.

Everything runs twice, under stock Python and under pylaunch, each as process 1 of a container.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest
from conftest import Tree
from contained import Container, Root, make_root, need_crun

pytestmark = pytest.mark.one_worker

STRANGER = (1_000_740_000, 0)  # As OpenShift chooses: of no entry in /etc/passwd, in group 0.
USER = (1000, 1000)
OF_USER = {"PYLAUNCH_CACHE": "/opt/of-user"}
ENTRYPOINT = ["pylaunch", "--preload", "/app/configs.txt"]
APP = {
    "configs.txt": "use image\nimport json\nimport decimal\nimport warm\n",
    "warm.py": "import logging, sqlite3\nTABLE = {n: n * n for n in range(1000)}\nLEVEL = logging.getLevelName(20)\n",
    "train.py": """
import os, subprocess, sys, tempfile, threading
import warm
print(sys.argv, warm.TABLE[31], warm.LEVEL, os.getuid(), os.getgid(), os.getcwd())
done = []; thread = threading.Thread(target=done.append, args=(1,)); thread.start(); thread.join(); print(done)
print(subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True))
print(subprocess.run(["sh", "-c", "echo $0 $LEFT; exit 3", "word"], capture_output=True, env={"LEFT": "x", "PATH": os.environ["PATH"]}))
child = os.fork()
if child == 0: os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), sorted(os.environ), os.path.expanduser("~"))
for folder in ("/tmp", "/dev/shm", "/app", os.environ.get("HOME", "/nowhere")):
    try:
        with tempfile.TemporaryFile(dir=folder) as file: print(folder, file.write(b"x"))
    except OSError as error: print(folder, error.strerror)
try:
    import multiprocessing; print(multiprocessing.Lock())
except OSError as error: print(error.strerror)
sys.exit(41)
""",
}
IN_LAYER = {"PYLAUNCH_CACHE": "/opt/pylaunch", "PYLAUNCH_CACHE_MODE": "readonly"}
# An image is of one user and, since site asks for HOME, of one HOME.
BUILD = """
set -e
pylaunch --build json decimal logging sqlite3 subprocess tempfile multiprocessing threading
build() { pylaunch --image-build $SHARED --preload /app/configs.txt /app/train.py; }
HOME=/root; build
HOME=/; build
# Without it, site asks who this is, which nothing shared may depend on.
if [ -z "$SHARED" ]; then unset HOME; build; fi
chmod -R a+rX $PYLAUNCH_CACHE
"""
NOWHERE = ("/dev/shm", "/dev/mqueue")
TMP = {"/tmp": "mode=1777,size=67108864"}
SITUATIONS = {
    "plain": Container(),
    "no capabilities": Container(user=USER),
    "read-only root": Container(read_only=True),
    "arbitrary user": Container(user=STRANGER),
    "arbitrary user, read-only root": Container(user=STRANGER, read_only=True, home="/"),
    "no HOME": Container(home=None),
    "no HOME, arbitrary user": Container(home=None, user=STRANGER),
    "HOME is /": Container(home="/"),
    "HOME is /, arbitrary user": Container(home="/", user=STRANGER),
    "HOME is not there": Container(home="/nowhere", user=STRANGER, read_only=True),
    "no writable folder": Container(read_only=True, without=NOWHERE, user=STRANGER),
    "no writable folder, root": Container(read_only=True, without=NOWHERE),
    "no /dev/shm": Container(without=("/dev/shm",)),
    "small tmpfs": Container(read_only=True, home="/tmp", tmpfs=TMP, user=STRANGER),
    "small tmpfs, root": Container(read_only=True, home="/tmp", tmpfs=TMP),
    "no /proc/sys": Container(masked=("/proc/sys",)),
    "no /proc/sys, no /proc/stat": Container(masked=("/proc/sys", "/proc/stat")),
    "no /proc": Container(without=("/proc",)),
    "no seccomp profile": Container(seccomp=False),
}


def bare_root(lab, folder) -> Root:
    """With the program, and nothing made for it yet."""
    need_crun(lab)
    root = make_root(folder / "root", lab, folder)
    Tree(root.folder / "app").write(APP)
    if root.run(Container(), "sh", "-c", "exit 5").code != 5:
        pytest.skip(f"crun makes no container here: {root.run(Container(), 'true').err}")
    time.sleep(2.2)  # What has just been written proves nothing.
    return root


@pytest.fixture(scope="session")
def layer(lab, tmp_path_factory) -> Root:
    """What `docker build` makes."""
    root = bare_root(lab, tmp_path_factory.mktemp("container"))
    root.build(Container(env={"PYLAUNCH_CACHE": "/opt/pylaunch"}), "sh", "-c", BUILD)
    (root.folder / "opt/of-user").mkdir()
    os.chown(root.folder / "opt/of-user", *USER)
    root.build(Container(user=USER, env=OF_USER), "sh", "-c", BUILD)
    env = {"PYLAUNCH_CACHE": "/opt/shared", "SHARED": "--shared"}
    root.build(Container(env=env), "sh", "-c", BUILD)
    return root


def explained(root: Root, container: Container, *args) -> str:
    container = replace(container, env={**container.env, "PYLAUNCH_EXPLAIN": "1"})
    return root.run(container, *ENTRYPOINT, *args).err


CACHES = {"layer's, readonly": IN_LAYER, "layer's": {"PYLAUNCH_CACHE": "/opt/pylaunch"}, "own": {}}


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_right_and_silent(layer, situation, cache):
    container = SITUATIONS[situation]
    container = replace(container, env=CACHES[cache])
    expected = layer.run(container, "python3", "/app/train.py", "a", "b c")
    assert expected.code == 41, expected
    for _ in range(2):
        got = layer.run(container, *ENTRYPOINT, "/app/train.py", "a", "b c")
        assert got == expected


def test_a_folder_that_was_named_and_cannot_be_written_is_told(layer):
    container = Container(read_only=True, env={"PYLAUNCH_CACHE": "/opt/other"})
    got = layer.run(container, *ENTRYPOINT, "/app/train.py")
    assert got.code == 41
    said = (
        "pylaunch: warning: no archive: /opt/other: cannot make the folder: Read-only file system\n"
    )
    assert got.err == said
    # And who asks hears it of the folder that is always there, too.
    assert "cannot make the folder: Read-only" in explained(
        layer, Container(read_only=True), "/app/train.py"
    )


# ---------------------------------------------------------------------------------------------- warm


@pytest.fixture(scope="session")
def elsewhere(layer) -> Root:
    """Other inodes, other change times, another device: the layers as another host has unpacked them."""
    copy = layer.copy(layer.folder.with_name("elsewhere"))
    time.sleep(2.2)  # What has just been written proves nothing.
    return copy


WARM = ["plain", "read-only root", "no HOME", "HOME is /", "no writable folder, root", "no /dev/shm", "small tmpfs, root", "no seccomp profile"]  # fmt: skip


@pytest.mark.parametrize("cache", ["layer's, readonly", "layer's"])
@pytest.mark.parametrize("situation", WARM)
def test_warm_from_the_layer_s_image_at_the_first_start(elsewhere, situation, cache):
    container = SITUATIONS[situation]
    home = {"small tmpfs, root": "/root"}.get(situation, container.home)
    said = explained(elsewhere, replace(container, env=CACHES[cache], home=home), "/app/train.py")
    assert "image: /opt/pylaunch/images/" in said, said


@pytest.mark.parametrize("situation", ["no capabilities", "HOME is /, arbitrary user"])
def test_warm_for_another_user_whom_the_layer_knows(elsewhere, situation):
    """USER 1000 before RUN pylaunch --image-build."""
    container = replace(SITUATIONS[situation], user=USER, env=OF_USER)
    said = explained(elsewhere, container, "/app/train.py")
    assert "image: /opt/of-user/images/" in said, said


SHARED = {"PYLAUNCH_CACHE": "/opt/shared", "PYLAUNCH_CACHE_MODE": "readonly"}


@pytest.mark.parametrize("situation", ["arbitrary user", "HOME is /, arbitrary user", "no writable folder"])  # fmt: skip
def test_warm_for_whom_the_layer_does_not_know(elsewhere, situation):
    """--image-build --shared"""
    said = explained(elsewhere, replace(SITUATIONS[situation], env=SHARED), "/app/train.py")
    assert "image: /opt/shared/images/" in said, said
