"""The order of tests in which pytest-xdist's workers end at about the same time.

With --dist=worksteal each worker gets a stretch of the list, as long as the others'; who has done
takes from the end of another's (check_schedule). So what should stay
with one worker, and what takes long, stands at the front of a stretch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import pytest


def in_order(
    items: Sequence[pytest.Item], workers: int, stays: Callable[[pytest.Item], object]
) -> list[pytest.Item]:
    """`stays`: true for a test that stays together with those of its file for which it is true."""
    files: dict[str, list[pytest.Item]] = {}
    for item in filter(stays, items):
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    fronts = [
        [x for file in list(files.values())[i::workers] for x in file] for i in range(workers)
    ]
    others = (item for item in items if not stays(item))
    ordered: list[pytest.Item] = []
    for i, front in enumerate(fronts):
        length = (len(items) - len(ordered)) // (workers - i)
        ordered += [*front, *islice(others, max(0, length - len(front)))]
    return [*ordered, *others]
