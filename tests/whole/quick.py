"""Which variants of a test run in fifteen minutes, and which only with `scripts/test --all`.

`pytest --quick` leaves of each test function as few variants as it takes for each value of each of its parameters
to occur: each program, each mode of starting it, but not each program in each mode. Stock's own variants prove an
expectation and nothing of pylaunch, so a value that occurs under stock alone has not occurred.

What is marked `thorough("why")`, a function or a variant, is left out. A test function cannot be lost in any
other way: test_quick.py.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence

import pytest


def by_function(items: Sequence[pytest.Item]) -> dict[str, list[pytest.Item]]:
    """The variants of each test, without any order: no share always has the same value of a parameter."""
    found = defaultdict(list)
    for item in sorted(items, key=lambda item: zlib.crc32(item.nodeid.encode())):
        found[item.nodeid.partition("[")[0]].append(item)
    return found


def share(tests: Sequence[pytest.Item], at: int, of: int) -> list[pytest.Item]:
    """Of `of` shares each has a variant, if there is any, and each variant is in one of them."""
    return [*tests[at::of], tests[at % len(tests)]] if tests else []


def chosen(tests: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Of one test's variants those that --quick leaves."""
    tests = [test for test in tests if not _is_thorough(test)]
    ours = [test for test in tests if not _is_stock(test)]
    return [*_each_value(ours), *_each_value([test for test in tests if _is_stock(test)])[:1]]


def _is_thorough(test: pytest.Item) -> bool:
    mark = test.get_closest_marker("thorough")
    if mark and not (mark.args and str(mark.args[0]).strip()):
        raise pytest.UsageError(f"{test.nodeid} is marked thorough without a reason")
    return mark is not None


def _parameters(test: pytest.Item) -> dict[str, object]:
    call = getattr(test, "callspec", None)
    return call.params if call else {}


def _is_stock(test: pytest.Item) -> bool:
    return _parameters(test).get("run") == "stock"


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
