# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""Files that preloading left open for reading are open in a restored process: the same numbers, as far as they were read."""

import os
import subprocess
import sys
import time

import pytest
from conftest import Tree
from imaged import RACY, reason, restored, why_not_made

KEEPER = """import os, sys
path = os.path.join(os.path.dirname(__file__), 'data.txt')
fd = os.open(path, os.O_RDONLY)
os.read(fd, 3)
os.set_inheritable(os.dup(fd), True)
kept = os.dup(fd)
os.set_inheritable(kept, True)
file = open(path)
first = file.readline()
binary = open(path, 'rb', buffering=0)
binary.seek(2)
"""
SHOW = """import keeper, os
k = keeper
for fd in (k.fd, k.kept, k.file.fileno(), k.binary.fileno()):
    print(fd, os.path.basename(os.readlink(f'/proc/self/fd/{fd}')), os.get_inheritable(fd), os.lseek(fd, 0, os.SEEK_CUR))
print(os.read(k.fd, 4), k.first, k.file.read(), k.binary.read(), sorted(map(int, os.listdir('/proc/self/fd')))[3:-1])
"""


@pytest.fixture
def keeper(image):
    lib = Tree(image.folder / "lib").write({"keeper.py": KEEPER, "data.txt": "one\ntwo\nthree\n"})
    time.sleep(RACY)

    def start(*options, program=SHOW, **kwargs):
        return image(*options, "-c", program, preload=["import keeper"], env={"PYTHONPATH": str(lib)}, **kwargs)  # fmt: skip

    start.lib, start.image = lib, image
    return start


def stock(keeper, program=SHOW):
    env = {**os.environ, "PYTHONPATH": str(keeper.lib)}
    return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True).stdout  # fmt: skip


@pytest.mark.every_python
def test_they_are_open_as_they_were(keeper):
    keeper.image.make("-c", "pass", preload=["import keeper"], env={"PYTHONPATH": str(keeper.lib)})
    got = keeper()
    assert restored(got), got.err
    assert got.out == stock(keeper)


def test_another_content_is_another_image(keeper):
    keeper.image.make("-c", "pass", preload=["import keeper"], env={"PYTHONPATH": str(keeper.lib)})
    (keeper.lib / "data.txt").write_text("ONE\nTWO\nTHREE\n")
    time.sleep(RACY)
    got = keeper()
    assert not restored(got) and reason(got).endswith("data.txt changed"), got.err
    assert got.out == stock(keeper)


def test_whose_number_the_starter_uses_takes_the_archive_path(keeper):
    """All that the starter has open there is as the starter has left it."""
    keeper.image.make("-c", "pass", preload=["import keeper"], env={"PYTHONPATH": str(keeper.lib)})
    for number in (3, 4, 5):
        wrap = ["bash", "-c", f'exec "$@" {number}</etc/passwd', "-"]
        program = f"import keeper, os; print(os.read({number}, 4), os.read(keeper.fd, 4))"
        got = keeper(program=program, wrap=wrap)
        assert (got.code, got.out) == (0, "b'root' b'\\ntwo'\n"), got.err
        assert "image: cannot be resumed: OSError('a descriptor is in use" in got.err


LEAVERS = {
    "written": "file = open(os.path.join(here, 'log'), 'w')",
    "appended": "file = open(os.path.join(here, 'data.txt'), 'a')",
    "locked": "import fcntl\nfile = open(os.path.join(here, 'data.txt'))\nfcntl.flock(file, fcntl.LOCK_SH)",
    "deleted": "file = open(os.path.join(here, 'gone'), 'w+')\nos.unlink(file.name)",
    "the kernel's": "file = open('/proc/self/status')",
    "a pipe": "file = os.pipe()",
    "a path only": "file = os.open(here, os.O_PATH)",
}


@pytest.mark.parametrize("name", LEAVERS)
def test_others_are_left_to_each_start(image, name):
    source = f"import os\nhere = os.path.dirname(__file__)\n{LEAVERS[name]}\n"
    lib = Tree(image.folder / "lib").write({"leaver.py": source, "data.txt": "one\n"})
    time.sleep(RACY)
    got = image("-c", "pass", preload=["import leaver"], env={"PYTHONPATH": str(lib)})
    assert "left a descriptor open" in why_not_made(got), got.err
