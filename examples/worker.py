"""One worker of the example study: as many processes as you like draw trials from one storage.

    pylaunch --workers 8 --restart on-failure \\
        --preload examples/configs.txt --preload examples/workers.txt examples/worker.py

The storage is a journal file in the output folder, which processes of one host share, or, with
--storage postgresql+psycopg://..., a database that several hosts can reach. The study is over when
each of its slots, 0 to --trials - 1, has been done by one trial. A trial whose worker was killed
fails: with a database, by Optuna's heartbeat; with a journal, which has none, by the worker that
pylaunch starts in the place of the killed one (PYLAUNCH_WORKER tells which that is). Then its slot
is queued again. Optuna's RetryHeartbeatStaleTrialCallback is not enough for that: a worker that is
killed after it has failed a trial, and before it has queued it again, loses it.
"""

import argparse
import contextlib
import os
import random
import sys
import tempfile
import time
import warnings
from datetime import datetime, timedelta
from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from train import load_images, open_database, run_trial, save_picture, write_tokenizer
from transformers.utils import logging as transformers_logging

WORKER = int(os.environ.get("PYLAUNCH_WORKER", "0"))
ATTEMPT = int(os.environ.get("PYLAUNCH_WORKER_ATTEMPT", "0"))
HEARTBEAT = 5  # Seconds; a trial without one for twice as long is tried again.
NAMELESS = timedelta(seconds=15)  # A trial that nobody has put a name to for so long is nobody's.
UNFINISHED = (TrialState.WAITING, TrialState.RUNNING)
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class NotNeeded(Exception):
    """A trial beyond the queue, or of a slot that an earlier trial has: it fails."""


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=200, help="of all workers together (200)")
    parser.add_argument("--epochs", type=int, default=1, help="epochs per trial (1)")
    parser.add_argument("--images", type=int, metavar="N", help="of the digits (all 1797)")
    parser.add_argument("--storage", metavar="URL", help="default: study.log in the output folder")
    parser.add_argument("--study-name", default="workers", help="joined where it exists (workers)")
    parser.add_argument("--output", type=Path, default=Path("train-output"), metavar="DIR")
    return parser.parse_args()


def open_storage(args):
    if not args.storage:
        backend = JournalFileBackend(str(args.output / "study.log"))
        return optuna.storages.JournalStorage(backend)
    return open_database(args.storage, heartbeat_interval=HEARTBEAT)


def open_study(args, storage):
    """Joins the study. Whoever makes it queues its slots, and the others wait for that."""
    options = dict(
        study_name=args.study_name,
        storage=storage,
        # No seed: each worker draws its own, restored from one image, too.
        sampler=optuna.samplers.TPESampler(constant_liar=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
    )
    try:
        study = optuna.create_study(direction="maximize", **options)
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(**options)
        wait_for_queue(study, args.trials)
    return study


def wait_for_queue(study, trials):
    """Until all slots are queued, or no more come: who queued them was killed."""
    patience = random.uniform(10, 20)  # Seconds; not all workers lose theirs at once.
    before, since = None, time.monotonic()
    while now := missing(read_trials(study), trials):
        if now != before:
            before, since = now, time.monotonic()
        elif time.monotonic() - since > patience:
            return
        time.sleep(0.5)


def read_trials(study):
    return study.get_trials(deepcopy=False)


def slots(trials, states):
    return {x.user_attrs["slot"] for x in trials if x.state in states and "slot" in x.user_attrs}


def missing(trials, count):
    """The slots that none of `trials` has done, does or will do."""
    return sorted(set(range(count)) - slots(trials, UNFINISHED + FINISHED))


def is_needed(study, trial):
    """False if an earlier trial has the slot: that one never makes way, so one of them runs."""
    return "slot" in trial.user_attrs and not any(
        x.user_attrs.get("slot") == trial.user_attrs["slot"] and x.number < trial.number
        for x in read_trials(study)
        if x.state in UNFINISHED + FINISHED
    )


def has_heartbeat(storage):
    """Ask of what open_storage() made: a study wraps it in a class of Optuna's own."""
    return isinstance(storage, optuna.storages.RDBStorage)


def put_name(storage, trial):
    """Not before there is a heartbeat: for Optuna a trial without its first one is never stale."""
    if has_heartbeat(storage):
        storage.record_heartbeat(trial._trial_id)
    trial.set_user_attr("worker", (WORKER, ATTEMPT))


def is_left_behind(storage, trial):
    """True if `trial` runs no more: an earlier attempt of this worker had it, or nobody has."""
    if "worker" not in trial.user_attrs:
        return datetime.now() - trial.datetime_start > NAMELESS
    if has_heartbeat(storage):
        return False  # Optuna looks after those.
    worker, attempt = trial.user_attrs["worker"]
    return worker == WORKER and attempt < ATTEMPT


def fail_left_behind(study, storage):
    """Fails the trials of killed workers."""
    if has_heartbeat(storage):
        optuna.storages.fail_stale_trials(study)
    for trial in read_trials(study):
        if trial.state == TrialState.RUNNING and is_left_behind(storage, trial):
            # Another worker may have been quicker.
            with contextlib.suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):
                study.tell(trial.number, state=TrialState.FAIL)


def work(study, storage, args):
    images = load_images(args.images)
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(folder)

        def objective(trial):
            put_name(storage, trial)
            if not is_needed(study, trial):
                raise NotNeeded
            return run_trial(trial, args, images, folder)

        while len(slots(trials := read_trials(study), FINISHED)) < args.trials:
            # Two workers may queue the same slot: see is_needed.
            for slot in missing(trials, args.trials):
                study.enqueue_trial({}, user_attrs={"slot": slot})
            if any(x.state == TrialState.WAITING for x in read_trials(study)):
                study.optimize(objective, n_trials=1, catch=NotNeeded)
            else:
                time.sleep(0.2)
            fail_left_behind(study, storage)


def main():
    args = parse_arguments()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # Of stale trials.
    transformers_logging.set_verbosity_error()
    args.output.mkdir(parents=True, exist_ok=True)
    storage = open_storage(args)
    study = open_study(args, storage)
    work(study, storage, args)
    if WORKER == 0:
        save_picture(study, args.output / "optimisation_history.png")
        finished = sum(x.state in FINISHED for x in read_trials(study))
        print(f"finished: {finished} trials, best accuracy {study.best_value:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
