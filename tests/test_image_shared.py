# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""An image is made by the first start, and used by every other that nothing tells from it that preloading asked for."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from imaged import RACY, reason, restored

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
    was = img.stat()
    data = img.read_bytes()
    at = next(i for i in range(len(data) // 2, len(data)) if data[i])
    with img.open("r+b") as file:
        file.seek(at)
        file.write(bytes([data[at] ^ 1]))
    os.utime(img, ns=(was.st_atime_ns, was.st_mtime_ns))
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
    assert reason(later) == "none for this state: boot id changed", later.err
    for mount in (f"mount --bind {tmp_path}/unset /proc/stat", "mount --bind /dev/null /proc/stat"):
        none = again(image, wrap=_masking(mount, SYS))
        assert reason(none).startswith("nothing tells this boot from another"), none.err
        assert "being made" not in none.err and none.code == 0
