"""Which variants of a test `scripts/test` runs; `scripts/test --all` runs every one.

`pytest --quick` leaves of each test function as few variants as it takes for each value of each
of its parameters to occur: each program and each mode of starting it, but not each program in each
mode. Stock's own variants prove an expectation and nothing of pylaunch, so what occurs under stock
alone has not occurred. Of a test marked `slow` it leaves one variant.

`pytest --quick --turn=I/N` is for the I-th of N further Pythons. A function has its turn on one of
them, with a share of those variants. What is marked `every_python` has all of them on each: that
the engine is entered, that the shield cures each cause, that modules come from the archive and
programs from an image, and that they end as under stock.

What is marked `full` installs packages or takes ten processor seconds: `--quick` leaves it out. No
other function is ever left out: test_quick.py.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

import pytest

# All that pytest has collected, before anything is left out.
COLLECTED = pytest.StashKey[list[pytest.Item]]()
MARKS = {
    "slow": "takes long: --quick leaves one variant",
    "full": "installs packages, or takes ten processor seconds: --quick leaves it out",
    "one_worker": "what its file needs takes minutes to make: one worker has all of it, at first",
    "every_python": "depends on CPython's version most: with --turn, it is each Python's turn",
}


def selection(items: Iterable[pytest.Item], quick: bool, turn: tuple[int, int] | None) -> set[str]:
    """The node ids of those that run."""
    functions = defaultdict(list)
    # Without any order: no share always has the same value of a parameter.
    items = [x for x in items if not (quick and x.get_closest_marker("full"))]
    for item in sorted(items, key=lambda item: zlib.crc32(item.nodeid.encode())):
        functions[item.nodeid.partition("[")[0]].append(item)
    kept = set()
    for name, tests in functions.items():
        if quick:
            tests = _quick(tests)
        if turn:
            tests = _turn(name, tests, *turn)
        kept |= {test.nodeid for test in tests}
    return kept


def _quick(tests: Sequence[pytest.Item]) -> list[pytest.Item]:
    stock = [test for test in tests if _parameters(test).get("run") == "stock"]
    ours = [test for test in tests if test not in stock]
    if tests[0].get_closest_marker("slow"):
        return (ours or stock)[:1]
    return [*_each_value(ours), *stock[:1]]


def _turn(name: str, tests: Sequence[pytest.Item], at: int, of: int) -> list[pytest.Item]:
    if tests[0].get_closest_marker("every_python"):
        return list(tests)
    return list(tests[::of]) if zlib.crc32(name.encode()) % of == at else []


def _parameters(test: pytest.Item) -> dict[str, object]:
    call = getattr(test, "callspec", None)
    return call.params if call else {}


def _each_value(tests: Sequence[pytest.Item]) -> list[pytest.Item]:
    values = {x.nodeid: {(n, repr(v)) for n, v in _parameters(x).items()} for x in tests}
    missing = set().union(*values.values())
    left, found = list(tests), []
    while left and (missing or not found):
        best = max(left, key=lambda test: len(values[test.nodeid] & missing))
        left.remove(best)
        found.append(best)
        missing -= values[best.nodeid]
    return found
