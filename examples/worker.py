"""One worker of the example study: as many processes as you like draw trials from one storage.

    pylaunch --workers 8 --restart on-failure \\
        --preload examples/configs.txt --preload examples/workers.txt examples/worker.py

The storage is a journal file in the output folder, which processes of one host share, or, with
--storage postgresql+psycopg://..., a database that several hosts can reach. The trials are queued
once, when the study is made, so that their count is exact. A trial whose worker was killed is tried
again: with a database, by Optuna's heartbeat; with a journal, which has none, by the worker that
pylaunch starts in the place of the killed one (PYLAUNCH_WORKER tells which that is).
"""

import argparse
import os
import sys
import tempfile
import time
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
NAMELESS = timedelta(seconds=30)  # A trial that nobody has put a name to for so long is nobody's.


class NotQueued(Exception):
    """A trial beyond the queue: another worker took the last one at the same moment."""


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
    return open_database(
        args.storage,
        heartbeat_interval=HEARTBEAT,
        heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
    )


def open_study(args):
    """Joins the study; the one worker that makes it queues its trials, the others wait for that."""
    storage = open_storage(args)
    options = dict(
        study_name=args.study_name,
        storage=storage,
        # No seed: each worker draws its own, restored from one image, too.
        sampler=optuna.samplers.TPESampler(constant_liar=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
    )
    try:
        study = optuna.create_study(direction="maximize", **options)
        for slot in range(args.trials):
            study.enqueue_trial({}, user_attrs={"slot": slot})
        study.set_user_attr("queued", args.trials)
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(**options)
    deadline = time.monotonic() + 120
    while "queued" not in study.user_attrs:
        if time.monotonic() > deadline:
            raise SystemExit("worker: error: whoever made the study has not queued its trials")
        time.sleep(0.1)
    return study


def has_heartbeat(study):
    return isinstance(study._storage, optuna.storages.RDBStorage)


def is_left_behind(study, trial):
    """True if `trial` runs no more: an earlier attempt of this worker had it, or nobody has."""
    if "worker" not in trial.user_attrs:  # Nor has it a heartbeat, perhaps, for ever.
        return datetime.now() - trial.datetime_start > NAMELESS
    if has_heartbeat(study):
        return False  # Optuna looks after those.
    worker, attempt = trial.user_attrs["worker"]
    return worker == WORKER and attempt < ATTEMPT


def retry_left_behind(study):
    """What the heartbeat of a database does, for a journal; for both, what had no first beat."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not is_left_behind(study, trial):
            continue
        try:
            study.tell(trial.number, state=TrialState.FAIL)
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
            continue  # Another worker was quicker.
        if "slot" in trial.user_attrs:
            study.enqueue_trial({}, user_attrs={"slot": trial.user_attrs["slot"]})


def is_over(study):
    return not study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING))


def work(study, args):
    images = load_images(args.images)
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(folder)

        def objective(trial):
            trial.set_user_attr("worker", (WORKER, ATTEMPT))
            if "slot" not in trial.user_attrs:
                raise NotQueued
            return run_trial(trial, args, images, folder)

        while not is_over(study):
            retry_left_behind(study)
            if study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                study.optimize(objective, n_trials=1, catch=NotQueued)
            else:
                if has_heartbeat(study):
                    optuna.storages.fail_stale_trials(study)
                time.sleep(0.2)


def finished(study):
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def main():
    args = parse_arguments()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    transformers_logging.set_verbosity_error()
    args.output.mkdir(parents=True, exist_ok=True)
    study = open_study(args)
    work(study, args)
    if WORKER == 0:
        save_picture(study, args.output / "optimisation_history.png")
        print(f"finished: {len(finished(study))} trials, best accuracy {study.best_value:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
