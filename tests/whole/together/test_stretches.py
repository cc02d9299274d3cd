"""Each worker begins with what takes long, and no test is lost."""

from itertools import groupby
from types import SimpleNamespace

import pytest
import stretches

FILES = {"slow_a": 3, "b": 40, "slow_c": 5, "slow_d": 1, "e": 30}
TESTS = [SimpleNamespace(nodeid=f"{file}::{i}") for file, n in FILES.items() for i in range(n)]


def stays(test) -> bool:
    return test.nodeid.startswith("slow") and test.nodeid != "slow_a::1"


def given(ordered, workers):
    """As pytest-xdist does."""
    left = list(ordered)
    for i in range(workers):
        length = len(left) // (workers - i)
        yield left[:length]
        left = left[length:]


@pytest.mark.parametrize("workers", [1, 2, 3, 6, 100])
def test_none_is_lost_and_files_stay_together(workers):
    ordered = stretches.in_order(TESTS, workers, stays)
    assert sorted(x.nodeid for x in ordered) == sorted(x.nodeid for x in TESTS)
    slow = [x.nodeid.partition("::")[0] for x in ordered if stays(x)]
    assert len([x for x, _ in groupby(slow)]) == len(set(slow)) == 3


def test_each_worker_begins_with_a_file_of_its_own():
    first = [x[0].nodeid for x in given(stretches.in_order(TESTS, 3, stays), 3)]
    assert first == ["slow_a::0", "slow_c::0", "slow_d::0"]
