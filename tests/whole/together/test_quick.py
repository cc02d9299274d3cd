"""What scripts/test leaves for --all is variants, never a test: of all that pytest collects."""

import pytest
import quick

TURNS = 4


@pytest.fixture
def everything(request) -> list[pytest.Item]:
    return request.config.stash[quick.COLLECTED]


@pytest.fixture
def collected(everything) -> list[pytest.Item]:
    """But what is for --all alone."""
    return [item for item in everything if not item.get_closest_marker("full")]


def function(nodeid: str) -> str:
    return nodeid.partition("[")[0]


def kept(collected, turn=None) -> list[pytest.Item]:
    chosen = quick.selection(collected, quick=True, turn=turn)
    return [item for item in collected if item.nodeid in chosen]


def values(items, under_stock: bool) -> set[tuple]:
    """Each value of each parameter of each test, as far as it occurs."""
    found = set()
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if (parameters.get("run") == "stock") == under_stock:
            found |= {(function(item.nodeid), name, repr(x)) for name, x in parameters.items()}
    return found


def test_each_function_runs(collected):
    assert {function(x.nodeid) for x in kept(collected)} == {function(x.nodeid) for x in collected}


def test_each_value_of_a_parameter_occurs_and_not_under_stock_alone(collected):
    full = [item for item in collected if not item.get_closest_marker("slow")]
    assert values(kept(full), under_stock=False) == values(full, under_stock=False)
    modes = {x for x in values(full, under_stock=True) if x[1] == "run"}
    assert modes <= values(kept(full), under_stock=True)


def test_a_slow_test_runs_once_and_under_pylaunch(collected):
    slow = [item for item in collected if item.get_closest_marker("slow")]
    left = [item.nodeid for item in kept(slow)]
    assert len(left) == len({function(x) for x in left})
    assert not values(kept(slow), under_stock=True)


def test_what_is_for_all_alone_is_left_out_and_nothing_else(everything, collected):
    left = quick.selection(everything, quick=True, turn=None)
    assert left == quick.selection(collected, quick=True, turn=None)
    assert quick.selection(everything, quick=False, turn=None) == {x.nodeid for x in everything}


def test_each_function_has_its_turn_on_one_further_python_and_some_on_each(collected):
    turns = [{function(x.nodeid) for x in kept(collected, (at, TURNS))} for at in range(TURNS)]
    everywhere = {function(x.nodeid) for x in collected if x.get_closest_marker("every_python")}
    assert set().union(*turns) == {function(x.nodeid) for x in collected}
    for at, functions in enumerate(turns):
        assert everywhere <= functions
        others = set().union(*(turns[i] for i in range(TURNS) if i != at))
        assert functions & others == everywhere


def test_no_two_workers_choose_otherwise(collected):
    for turn in (None, (1, TURNS)):
        there = quick.selection(reversed(collected), quick=True, turn=turn)
        assert quick.selection(collected, quick=True, turn=turn) == there
