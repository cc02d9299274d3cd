import multiprocessing
import subprocess
import sys

import pytest


def test_subprocess():
    out = subprocess.check_output([sys.executable, "-c", "import json; print(json.dumps([1]))"])
    assert out == b"[1]\n"


def test_spawned():
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]


@pytest.mark.parametrize("number", range(3))
def test_rewritten_assertion_shows_values(number):
    with pytest.raises(AssertionError, match=f"assert {number} == 7"):
        assert number == 7
