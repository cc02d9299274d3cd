# ruff: noqa: E501 - tables read better on long lines.
"""examples/worker.py: workers that are killed at random lose no trial of a study, and do none twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time

import optuna
import pytest
from conftest import ROOT, children, clean_environment, finish, start
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

EXAMPLES = ROOT / "examples"
FLAGS = ["--restart", "on-failure", "--preload", EXAMPLES / "configs.txt", "--preload", EXAMPLES / "workers.txt"]  # fmt: skip
pytestmark = [pytest.mark.slow, pytest.mark.one_worker]  # A minute of two processors.


def is_worker(pid: int) -> bool:
    """Not what workers have left to the supervisor: sealers and writers of images have sessions of their own."""
    return os.getpgid(pid) == pid and os.getsid(pid) == os.getsid(0)


def kill_at_random(process, times: int, rng: random.Random) -> int:
    """Kills `times` workers, each some seconds after the last; how many it came to."""
    killed = 0
    while killed < times and process.poll() is None:
        time.sleep(rng.uniform(0.5, 1.5))
        below = [pid for supervisor in children(process.pid) for pid in children(supervisor)]
        with contextlib.suppress(ProcessLookupError, IndexError):
            os.kill(rng.choice([pid for pid in below if is_worker(pid)]), signal.SIGKILL)
            killed += 1
    return killed


@pytest.mark.parametrize(("trials", "workers", "kills"), [(24, 2, 2), (200, 8, 20)])
def test_killed_workers_lose_no_trial(lab, tmp_path, trials, workers, kills):
    lab.need_pylaunch()
    argv = [
        *(lab.pylaunch, "--python", sys.executable, "--cache", tmp_path / "cache", "--workers", workers, *FLAGS),
        *(EXAMPLES / "worker.py", "--trials", trials, "--images", 300, "--output", tmp_path),
    ]  # fmt: skip
    process = start(map(str, argv), clean_environment(lab.home), tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / "study.log").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    killed = kill_at_random(process, kills, random.Random(trials))
    code, out, err = finish(process, timeout=600)
    assert code == 0, f"{killed} were killed\n{out.decode()}\n{err.decode()}"
    assert killed == kills and err.decode().count("killed by signal 9") == kills

    storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "study.log")))
    found = optuna.load_study(study_name="workers", storage=storage).get_trials()
    done = [x for x in found if x.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert sorted(x.user_attrs["slot"] for x in done) == list(range(trials))
    assert not [x for x in found if x.state in (TrialState.RUNNING, TrialState.WAITING)]
    assert f"[0] finished: {trials} trials" in out.decode()
    assert (tmp_path / "optimisation_history.png").read_bytes().startswith(b"\x89PNG")
    # Nobody draws what another one draws: each worker's sampler has a seed of its own.
    rates = [x.params["learning_rate"] for x in done if "learning_rate" in x.params]
    assert len(set(rates)) == len(rates)
