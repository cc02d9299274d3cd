"""Real engines, whose workers are to start warm: each engine of tests/engines_bench in each of its
modes, by the same programs that scripts/bench-engines measures, with a quick import to preload."""

import shutil
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests"))
from engines_bench import MODES, Place, engines, environment
from imaged import PYTHON, has

ENGINES = engines()
# Made once a build folder, by whichever test comes first.
pytestmark = [pytest.mark.full, pytest.mark.one_worker]


@pytest.fixture(params=ENGINES.values(), ids=lambda engine: engine.name)
def place(request, lab, tmp_path) -> Place:
    lab.need_pylaunch()
    engine = request.param
    missing = [x for x in engine.needs if not has(x)]
    missing += [x for x in engine.tools if not shutil.which(x)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    build = lab.pylaunch.parent
    where = environment(engine, PYTHON, build, build / "engines")
    return Place(engine, where, tmp_path / "place", "import used", "used")


def test_workers_are_stocks_but_preloaded_or_restored(place):
    """They print the same and end the same in each mode, and the useful import is there or not."""
    stock = place.warm("stock")
    for mode in MODES[1:]:
        outcome = place.warm(mode)
        assert place.plain(outcome.out) == place.plain(stock.out), mode
        assert place.plain(outcome.err) == place.plain(stock.err), mode
        for worker in outcome.workers:
            assert worker.preloaded == (mode in ("preload", "image")), mode
            assert worker.restored == (mode == "image"), mode


def test_nobody_preloads_but_workers(place):
    """Launchers, trackers, nannies, parents have no use for it: only what runs tasks preloads, or
    what it is forked from."""
    place.warm("preload")
    outcome = place.run("preload", ENGINES_LOADED="1")
    assert all(worker.preloaded for worker in outcome.workers)
    workers = {worker.pid for worker in outcome.workers}
    forked_from = place.engine.forked_from
    assert outcome.loaded.keys() & workers == (set() if forked_from else workers), outcome.loaded
    others = {pid: words for pid, words in outcome.loaded.items() if pid not in workers}
    spare = place.engine.spare
    if spare:  # As many as the engine likes.
        others = {pid: words for pid, words in others.items() if spare not in " ".join(words)}
    assert len(others) == forked_from + place.engine.besides, others
