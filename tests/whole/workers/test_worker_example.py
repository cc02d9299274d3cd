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
import sqlalchemy
from conftest import ROOT, children, clean_environment, finish, start, wait_until
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sqlalchemy.exc import DBAPIError

EXAMPLES = ROOT / "examples"
FLAGS = ["--restart", "on-failure", "--preload", EXAMPLES / "configs.txt", "--preload", EXAMPLES / "workers.txt"]  # fmt: skip
PATIENCE = {"timeout": 120, "every": 0.05}
pytestmark = [pytest.mark.slow, pytest.mark.one_worker]  # A minute of two processors.


@contextlib.contextmanager
def started(*args, **kwargs):
    """A supervisor, which ends with the test: its workers would try for ever to reach a database that is gone."""
    process = start(*args, **kwargs)
    try:
        yield process
    finally:
        process.kill()  # Its workers as well: no worker outlives its supervisor.
        process.communicate()


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


@contextlib.contextmanager
def told_if_it_fails(storage, *logs):
    """Prints what state the study is in, and what workers have said, where the test fails."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(DBAPIError, KeyError):
            for x in trials_of(storage):
                print(x.number, x.state.name, x.datetime_start, x.datetime_complete, x.user_attrs)
        if isinstance(storage, str):
            with contextlib.suppress(DBAPIError), sqlalchemy.create_engine(storage).connect() as database:  # fmt: skip
                for row in database.execute(sqlalchemy.text("select * from trial_heartbeats")):
                    print("heartbeat", *row)
        for log in logs:
            print(log, log.read_text(), sep="\n")
        raise


def run_killed(lab, folder, trials: int, workers: int, kills: int, made, *more) -> None:
    """`kills` workers are killed, the first one when the study has been `made()`."""
    argv = command(lab, folder, workers, trials, *more)
    with started(argv, clean_environment(lab.home), folder) as process:
        wait_until(made, "the study is made", **PATIENCE)
        killed = kill_at_random(process, kills, random.Random(trials))
        code, out, err = finish(process, timeout=900)
    assert code == 0, f"{killed} were killed\n{out.decode()}\n{err.decode()}"
    assert killed == kills and err.decode().count("killed by signal 9") == kills
    assert f"[0] finished: {trials} trials" in out.decode()
    assert (folder / "optimisation_history.png").read_bytes().startswith(b"\x89PNG")


# Runs the example, and kills itself at a moment that a kill from outside rarely meets.
KILLED_WHEN = """\
import os, runpy, signal, sys, time
import optuna

calls = 0

def die(*args, **kwargs):
    global calls
    calls += 1
    if calls < FROM:
        return kept(*args, **kwargs)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)

where, moment, kept = optuna.WHERE, "MOMENT", optuna.WHERE.MOMENT
setattr(where, moment, die)
sys.argv[0] = "EXAMPLE"
runpy.run_path("EXAMPLE", run_name="__main__")
"""
MOMENTS = {  # What is called then, and in which of its calls.
    "queueing": ("study.Study", "enqueue_trial", 3),
    "taken, no heartbeat yet": ("storages.RDBStorage", "record_heartbeat", 1),
    "done, not told": ("study._optimize", "_tell_with_warning", 2),
}


@pytest.mark.full
@pytest.mark.parametrize("moment", MOMENTS)
def test_no_moment_to_be_killed_at_loses_a_trial_of_a_database(lab, tmp_path, moment):
    """What a lost host's worker leaves is done by another's, which knows nothing of the first."""
    lab.need_pylaunch()
    where, name, first = MOMENTS[moment]
    text = KILLED_WHEN.replace("WHERE", where).replace("MOMENT", name).replace("FROM", str(first))
    program = tmp_path / "program.py"
    program.write_text(text.replace("EXAMPLE", str(EXAMPLES / "worker.py")))
    url = f"sqlite:///{tmp_path / 'study.db'}"
    argv = command(lab, tmp_path, 1, 4, "--storage", url)
    killed = [str(program) if x.endswith("worker.py") else x for x in argv]
    killed[killed.index("on-failure")] = "never"
    environment = clean_environment(lab.home, PYTHONPATH=str(EXAMPLES))
    code, out, err = finish(start(killed, environment, tmp_path), timeout=300)
    assert code == 128 + signal.SIGKILL, (out, err)
    with told_if_it_fails(url):
        code, out, err = finish(start(argv, environment, tmp_path), timeout=300)
        assert code == 0 and b"[0] finished: 4 trials" in out, (out, err)
        check_study(url, 4)


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
        with told_if_it_fails(url):
            made = lambda: database_has_study(url)  # noqa: E731
            run_killed(lab, tmp_path, trials, workers, kills, made, *more)
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
        contextlib.ExitStack() as stack,
    ):
        url, running = postgresql.url(port), []
        logs = [tmp_path / f"{host}.log" for host in hosts]
        for host, log in zip(hosts, logs, strict=True):
            (tmp_path / host).mkdir()
            argv = command(lab, tmp_path / host, 2, 24, "--storage", postgresql.url(port, address))
            argv = ["ip", "netns", "exec", host, *argv]
            with log.open("w") as file:
                environment = clean_environment(lab.home)
                options = {"stdout": file, "stderr": file}
                running.append(stack.enter_context(started(argv, environment, tmp_path, **options)))
        with told_if_it_fails(url, *logs):
            wait_until(lambda: database_has_study(url), "the study is made", **PATIENCE)
            wait_until(
                lambda: any(x.state == TrialState.COMPLETE for x in trials_of(url)),
                "a trial is done",
                **PATIENCE,
            )
            lost = running.pop()
            lost.kill()
            lost.wait()
            for process, log in zip(running, logs, strict=False):
                code, _, _ = finish(process, timeout=300)
                assert code == 0 and "[0] finished: 24 trials" in log.read_text()
            check_study(url, 24)
