"""Recording the example study gives a preload file equal in effect to examples/configs.txt."""

import os
import re
import subprocess
import sys

import optuna
import pytest
from test_train_example import PYLAUNCH, ROOT, TIMEOUT_SECONDS, check_trials

TRAIN = ROOT / "examples" / "train.py"
CONFIGS = ROOT / "examples" / "configs.txt"
FAMILIES = {"auto", "bert", "roberta", "deberta-v2"}

pytestmark = pytest.mark.one_worker

# Every entry of configs.txt, as a thread of a program would come upon it.
ON_A_THREAD = """
import sys, threading
failed = []
def work():
    for statement in sys.argv[1:]:
        try:
            exec(statement, {})
        except Exception as error:
            failed.append(f"{statement}: {error!r}")
thread = threading.Thread(target=work)
thread.start()
thread.join()
sys.exit("\\n".join(failed) or 0)
"""


def pylaunch(*arguments, cwd):
    environment = {"PYLAUNCH_PYTHON": sys.executable, **os.environ}
    done = subprocess.run(
        [str(word) for word in (PYLAUNCH, *arguments)],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * TIMEOUT_SECONDS,
    )
    # One epoch teaches too little for train.py's standards: then it says so and ends with 1.
    untaught = re.search(r"^train: error: the best accuracy", done.stderr, re.MULTILINE)
    assert done.returncode == int(untaught is not None), f"{done.stdout}\n{done.stderr}"
    return done.stderr


def train(*flags, folder):
    """The study in four threads: what --explain told, and the families that its trials drew."""
    folder.mkdir()
    job = [TRAIN, "--trials", 12, "--jobs", 4, "--epochs", 1, "--images", 300]
    errors = pylaunch(*flags, *job, cwd=folder)
    database = folder / "train-output" / "study.db"
    check_trials(database, 12)
    study = optuna.load_study(study_name="digits", storage=f"sqlite:///{database}")
    return errors, {trial.params["family"] for trial in study.trials}


def imports_on_threads(errors):
    lines = re.findall(r"^pylaunch: explain: threads: (.*)$", errors, re.MULTILINE)
    return int(re.match(r"(\d+) imports? on threads other than the main one", lines[-1])[1]), lines


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """As a user would: again, on top of what there is, until the trials have drawn every family."""
    folder = tmp_path_factory.mktemp("record")
    file = folder / "recorded.txt"
    flags = ["--record", file, "--explain"]
    errors, drawn = train(*flags, folder=folder / "run")
    assert imports_on_threads(errors)[0] > 5, "the trials imported nothing: this tests nothing"
    for attempt in range(4):
        if drawn >= FAMILIES:
            return file
        drawn |= train(*flags, "--preload", file, folder=folder / f"run{attempt}")[1]
    pytest.fail(f"60 trials drew no more than {drawn}")


def statements():
    for line in CONFIGS.read_text().splitlines():
        words = line.partition("#")[0].split()
        if not words or "=" in words[0] or words[0] == "use":
            continue
        text = " ".join(words)
        if text.startswith("optional "):
            module = text.removeprefix("optional ")
            yield f"try: import {module}\nexcept ModuleNotFoundError: pass"
        elif text.startswith("call "):
            module, name = text.removeprefix("call ").split(":")
            yield f"from {module} import {name}; {name}()"
        elif ":" in text:
            module, name = text.split(":")
            yield f"from {module} import {name}"
        else:
            yield text


def test_with_the_recorded_file_no_trial_imports_anything(recorded, tmp_path):
    errors, _ = train("--preload", recorded, "--explain", folder=tmp_path / "run")
    assert imports_on_threads(errors) == (0, ["0 imports on threads other than the main one"])


def test_the_recorded_file_covers_every_entry_of_configs_txt(recorded, tmp_path):
    entries = list(statements())
    assert len(entries) > 20
    flags = ["--preload", recorded, "--explain"]
    errors = pylaunch(*flags, "-c", ON_A_THREAD, *entries, cwd=tmp_path)
    assert imports_on_threads(errors)[0] == 0, errors


def test_the_recorded_file_is_for_people(recorded):
    text = recorded.read_text()
    assert len(text.splitlines()) < 80
    assert str(ROOT) not in text.replace(str(TRAIN), ""), "a path of this machine"
    for name in ("AutoConfig", "BertConfig", "RobertaConfig", "DebertaV2Config", "OnnxConfig"):
        assert re.search(rf"^from transformers.* import .*\b{name}\b", text, re.MULTILINE), text
    assert re.search(r"^HF_HUB_OFFLINE\?=1$", text, re.MULTILINE)
    assert "import __main__" not in text
