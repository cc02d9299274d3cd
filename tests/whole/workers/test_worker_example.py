# ruff: noqa: E501 - tables read better on long lines.
"""examples/worker.py: workers that are killed at random lose no trial of a study, and do none twice."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import optuna
import postgresql
import pytest
from conftest import ROOT, children, clean_environment, finish, start, wait_until
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sqlalchemy.exc import DBAPIError

EXAMPLES = ROOT / "examples"
FLAGS = ["--restart", "on-failure", "--preload", EXAMPLES / "configs.txt", "--preload", EXAMPLES / "workers.txt"]  # fmt: skip
PATIENCE = {"timeout": 120, "every": 0.05}
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


def command(lab, folder, workers: int, trials: int, *more) -> list[str]:
    own = [lab.pylaunch, "--python", sys.executable, "--cache", folder / "cache"]
    program = [EXAMPLES / "worker.py", "--trials", trials, "--images", 300, "--output", folder]
    return [str(x) for x in (*own, "--workers", workers, *FLAGS, *program, *more)]


def trials_of(storage):
    return optuna.load_study(study_name="workers", storage=storage).get_trials()


def check_study(storage, trials: int) -> None:
    """No trial is lost, none is stuck, none was done twice."""
    found = trials_of(storage)
    done = [x for x in found if x.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert sorted(x.user_attrs["slot"] for x in done) == list(range(trials))
    assert not [x for x in found if x.state in (TrialState.RUNNING, TrialState.WAITING)]
    # Nobody draws what another one draws: each worker's sampler has a seed of its own.
    rates = [x.params["learning_rate"] for x in done if "learning_rate" in x.params]
    assert len(set(rates)) == len(rates)


def run_killed(lab, folder, trials: int, workers: int, kills: int, made, *more) -> None:
    """`kills` workers are killed, the first one when the study has been `made()`."""
    argv = command(lab, folder, workers, trials, *more)
    process = start(argv, clean_environment(lab.home), folder)
    wait_until(made, "the study is made", **PATIENCE)
    killed = kill_at_random(process, kills, random.Random(trials))
    code, out, err = finish(process, timeout=600)
    assert code == 0, f"{killed} were killed\n{out.decode()}\n{err.decode()}"
    assert killed == kills and err.decode().count("killed by signal 9") == kills
    assert f"[0] finished: {trials} trials" in out.decode()
    assert (folder / "optimisation_history.png").read_bytes().startswith(b"\x89PNG")


SIZES = pytest.mark.parametrize(("trials", "workers", "kills"), [(24, 2, 2), (200, 8, 20)])


@SIZES
def test_killed_workers_lose_no_trial(lab, tmp_path, trials, workers, kills):
    lab.need_pylaunch()
    log = tmp_path / "study.log"
    run_killed(lab, tmp_path, trials, workers, kills, log.exists)
    check_study(optuna.storages.JournalStorage(JournalFileBackend(str(log))), trials)


def database_has_study(url: str) -> bool:
    try:
        return bool(optuna.get_all_study_names(url))
    except DBAPIError:
        return False  # The tables are not there yet.


@pytest.mark.full
@SIZES
def test_killed_workers_lose_no_trial_of_a_database(lab, tmp_path, trials, workers, kills):
    """Optuna's heartbeat tells the others of a killed one."""
    lab.need_pylaunch()
    with postgresql.server() as port:
        url = postgresql.url(port)
        more = ("--storage", url)
        run_killed(lab, tmp_path, trials, workers, kills, lambda: database_has_study(url), *more)
        check_study(url, trials)


@contextlib.contextmanager
def network_namespaces(count: int):
    """Hosts of their own, as far as the network goes, on one bridge; the names of the namespaces, and our address."""
    mine, made = f"pl{os.getpid() % 100000}", []

    def ip(*argv: str) -> None:
        done = subprocess.run(["ip", *argv], stderr=subprocess.PIPE, text=True)
        if done.returncode:
            pytest.skip(f"needs to make network namespaces: ip {' '.join(argv)}: {done.stderr}")

    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("needs root and iproute2 to make network namespaces")
    try:
        ip("link", "add", mine, "type", "bridge")
        made.append(("link", "del", mine))
        ip("addr", "add", "10.97.31.1/24", "dev", mine)
        ip("link", "set", mine, "up")
        names = [f"{mine}-{at}" for at in range(count)]
        for at, name in enumerate(names):
            ip("netns", "add", name)
            made.append(("netns", "del", name))
            ip("link", "add", f"{mine}v{at}", "type", "veth", "peer", "eth0", "netns", name)
            ip("link", "set", f"{mine}v{at}", "master", mine, "up")
            ip("-n", name, "addr", "add", f"10.97.31.{at + 2}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names, "10.97.31.1"
    finally:
        for undo in reversed(made):
            subprocess.run(["ip", *undo], check=False)


@pytest.mark.full
def test_three_hosts_share_a_database(lab, tmp_path):
    """Each one's supervisor and image are its own; a whole host is lost in the middle of the study."""
    lab.need_pylaunch()
    with (
        network_namespaces(3) as (hosts, address),
        postgresql.server(address, networks=["10.97.31.0/24"]) as port,
    ):
        running = []
        for host in hosts:
            (tmp_path / host).mkdir()
            argv = command(lab, tmp_path / host, 2, 24, "--storage", postgresql.url(port, address))
            environment = clean_environment(lab.home)
            running.append(start(["ip", "netns", "exec", host, *argv], environment, tmp_path))
        url = postgresql.url(port)
        wait_until(lambda: database_has_study(url), "the study is made", **PATIENCE)
        wait_until(
            lambda: any(x.state == TrialState.COMPLETE for x in trials_of(url)),
            "a trial is done",
            **PATIENCE,
        )
        lost = running.pop()
        lost.kill()
        lost.communicate()
        for process in running:
            code, out, err = finish(process, timeout=300)
            assert code == 0 and b"[0] finished: 24 trials" in out, (out, err)
        check_study(url, 24)
