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


