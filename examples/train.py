"""An Optuna study in threads: which tiny transformer reads handwritten digits best?

Runs under stock `python` and, with every import done beforehand, under pylaunch:

    python examples/train.py
    pylaunch --preload examples/configs.txt examples/train.py      # the second time from an image

Each trial draws a model family and a size, trains it on scikit-learn's bundled 8x8 digits as
sequences of 64 pixel tokens, and reports its accuracy after every epoch. Trials run on --jobs
threads and, like real training code, import part of what they need only there. Several processes
may share one study: start each with the same --storage and --study-name. Nothing is downloaded.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is imported
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # our threads are parallel enough

import numpy as np
import optuna
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sqlalchemy.exc import DBAPIError
from tqdm import tqdm
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    DebertaV2Config,
    RobertaConfig,
)
from transformers.utils import logging as transformers_logging

FAMILIES = ("auto", "bert", "roberta", "deberta-v2")
BATCH = 32
LOWEST_ACCURACY = 0.3  # ten classes: chance is 0.1; below this something is broken...
TELLING_TRIALS = 4  # ...unless there were so few that all may have drawn a bad learning rate


def seconds_since_process_start():
    """How long ago the kernel started this process (an exec keeps the start time)."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # field 22 of proc(5): starttime
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=18, help="trials of this process (18)")
    parser.add_argument("--jobs", type=int, default=4, help="threads that run trials (4)")
    parser.add_argument("--images", type=int, metavar="N", help="of the digits (all 1797)")
    parser.add_argument("--epochs", type=int, default=4, help="epochs per trial (4)")
    parser.add_argument("--storage", metavar="URL", help="default: study.db in the output folder")
    parser.add_argument("--study-name", default="digits", help="joined where it exists (digits)")
    parser.add_argument("--output", type=Path, default=Path("train-output"), metavar="DIR")
    parser.add_argument("--timing", type=Path, metavar="FILE", help="write the time of that line")
    parser.add_argument("--seed", type=int, help="repeats a study exactly only with --jobs 1")
    return parser.parse_args()


def load_images(most=None):
    """Digits as text, one word per pixel ("0" to "16"), and labels; the same split every time."""
    images, labels = (part[:most] for part in load_digits(return_X_y=True))
    texts = np.array([" ".join(str(int(pixel)) for pixel in image) for image in images])
    return train_test_split(texts, labels, test_size=0.2, random_state=0, stratify=labels)


def write_tokenizer(folder):
    """The local files that AutoTokenizer reads in each trial: one token per pixel value."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(17))]
    Path(folder, "vocab.txt").write_text("\n".join(words) + "\n")
    settings = {"tokenizer_class": "BertTokenizer", "model_max_length": 66}
    Path(folder, "tokenizer_config.json").write_text(json.dumps(settings))


def suggest_config(trial, vocab_size):
    """A configuration of the drawn family: tens of thousands of weights."""
    family = trial.suggest_categorical("family", FAMILIES)
    hidden = trial.suggest_categorical("hidden_size", (32, 48))
    size = dict(
        vocab_size=vocab_size,
        hidden_size=hidden,
        embedding_size=hidden,  # electra's name for the width of its embeddings
        intermediate_size=2 * hidden,
        num_hidden_layers=trial.suggest_int("layers", 1, 2),
        num_attention_heads=4,
        max_position_embeddings=80,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.1,  # tiny layers: the usual 0.02 makes for a slow start
        pad_token_id=0,
        num_labels=10,
    )
    if family == "auto":
        return AutoConfig.for_model("electra", **size)
    if family == "bert":
        return BertConfig(**size)
    if family == "roberta":
        return RobertaConfig(**size)
    return DebertaV2Config(**size)


def onnx_inputs(config):
    """Names and dynamic axes of the inputs, as an exporter would declare them."""
    from transformers.onnx import OnnxConfig  # late on purpose

    class DigitsOnnxConfig(OnnxConfig):
        @property
        def inputs(self):
            axes = {0: "batch", 1: "sequence"}
            return {"input_ids": axes, "attention_mask": axes}

    return dict(DigitsOnnxConfig(config, task="sequence-classification").inputs)


def train_epoch(model, optimizer, schedule, data):
    tokens, labels = data
    model.train()
    for batch in torch.randperm(len(labels)).split(BATCH):
        loss = model(input_ids=tokens[batch], labels=labels[batch]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def evaluate(model, data):
    from sklearn.metrics import accuracy_score

    tokens, labels = data
    model.eval()
    with torch.inference_mode():
        guesses = [model(input_ids=part).logits.argmax(-1) for part in tokens.split(8 * BATCH)]
    return float(accuracy_score(labels, torch.cat(guesses)))


def run_trial(trial, args, images, tokenizer_folder):
    """One trial, on a thread of the study. Returns the accuracy on the images held back."""
    from transformers import AutoTokenizer, get_linear_schedule_with_warmup  # late on purpose

    torch.set_num_threads(1)  # the threads of the study share the cores
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    train_texts, test_texts, train_labels, test_labels = images

    def encode(texts, labels):
        tokens = tokenizer(texts.tolist(), return_tensors="pt")["input_ids"]
        return tokens, torch.from_numpy(labels)

    train, test = encode(train_texts, train_labels), encode(test_texts, test_labels)
    config = suggest_config(trial, len(tokenizer))
    trial.set_user_attr("onnx_inputs", onnx_inputs(config))
    rate = trial.suggest_float("learning_rate", 1e-3, 5e-3, log=True)
    model = AutoModelForSequenceClassification.from_config(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    steps = args.epochs * -(-len(train[1]) // BATCH)
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)

    for epoch in range(args.epochs):
        train_epoch(model, optimizer, schedule, train)
        accuracy = evaluate(model, test)
        trial.report(accuracy, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned()
    return accuracy


def open_database(url, **options):
    """Tries again where another process is creating the same tables just now."""
    wait = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    for _ in range(19):
        try:
            return optuna.storages.RDBStorage(url, engine_kwargs=wait, **options)
        except DBAPIError:
            time.sleep(0.25)
    return optuna.storages.RDBStorage(url, engine_kwargs=wait, **options)


def open_study(args):
    """Creates the study, or joins it where another process, or an earlier run, has created it."""
    return optuna.create_study(
        study_name=args.study_name,
        storage=open_database(args.storage or f"sqlite:///{args.output / 'study.db'}"),
        load_if_exists=True,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=args.seed, constant_liar=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
    )


def optimize(study, args):
    """Runs the trials. Returns one line for each that failed; a failure does not stop the rest."""
    failures = []
    images = load_images(args.images)

    def objective(trial):
        try:
            return run_trial(trial, args, images, folder)
        except optuna.TrialPruned:
            raise
        except Exception as error:
            failures.append(f"trial {trial.number} failed: {type(error).__name__}: {error}")
            raise

    def advance(study, trial):
        bar.update()

    with (
        tempfile.TemporaryDirectory() as folder,
        tqdm(total=args.trials, unit="trial", disable=not sys.stderr.isatty()) as bar,
    ):
        write_tokenizer(folder)
        study.optimize(
            objective, args.trials, n_jobs=args.jobs, catch=Exception, callbacks=[advance]
        )
    return failures


def save_picture(study, path):
    """Draws the optimisation history; replaced in one step, as other workers may do the same."""
    import matplotlib

    matplotlib.use("Agg")
    from optuna.visualization.matplotlib import plot_optimization_history

    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    axes = plot_optimization_history(study)
    unfinished = path.with_suffix(f".{os.getpid()}.png")
    axes.figure.savefig(unfinished, dpi=120)
    unfinished.replace(path)


def main():
    ready = f"{seconds_since_process_start():.3f} s"
    print(f"train: first line after imports {ready} after process start", file=sys.stderr)
    args = parse_arguments()
    if args.timing:
        args.timing.write_text(ready + "\n")
    if args.trials == 0:  # only the start was to be timed
        return 0
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    transformers_logging.set_verbosity_error()
    if args.seed is not None:
        torch.manual_seed(args.seed)
    args.output.mkdir(parents=True, exist_ok=True)

    study = open_study(args)
    problems = optimize(study, args)
    finished = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
    if finished:
        best = study.best_trial
        picture = args.output / "optimisation_history.png"
        save_picture(study, picture)
        print(f"best trial: {best.number}")
        print("parameters: " + ", ".join(f"{k}={v}" for k, v in best.params.items()))
        print(f"accuracy:   {best.value:.3f}")
        print(f"picture:    {picture}")
        if len(finished) >= TELLING_TRIALS and best.value < LOWEST_ACCURACY:
            problems.append(f"the best accuracy, {best.value:.3f}, is below {LOWEST_ACCURACY}")
    else:
        problems.append("no trial was completed")
    for problem in problems:
        print(f"train: error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
