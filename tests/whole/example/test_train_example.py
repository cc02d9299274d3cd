"""The example study of examples/train.py, run by pylaunch as a user would run it.

PYLAUNCH_BIN names the binary (default: build/pylaunch); the Python it finds is the one that runs
pytest, unless PYLAUNCH_PYTHON says otherwise.
"""

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PYLAUNCH = Path(os.environ.get("PYLAUNCH_BIN", ROOT / "build" / "pylaunch")).absolute()
TRAIN = ["--preload", ROOT / "examples" / "configs.txt", ROOT / "examples" / "train.py"]
AS_PID_1 = ["unshare", "--pid", "--fork", "--mount-proc"]
TIMEOUT_SECONDS = 300


def start(*arguments, cwd, prefix=(), env=()):
    assert PYLAUNCH.exists(), f"{PYLAUNCH} is not there: build it, or set PYLAUNCH_BIN"
    command = [*prefix, PYLAUNCH, *arguments]
    return subprocess.Popen(
        [str(word) for word in command],
        cwd=cwd,
        env={"PYLAUNCH_PYTHON": sys.executable, **os.environ, **dict(env)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """Waits, and returns what the process wrote to stdout and stderr."""
    try:
        output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        pytest.fail(f"no end after {TIMEOUT_SECONDS} s\n{output}\n{errors}")
    assert process.returncode == 0, f"exit code {process.returncode}\n{output}\n{errors}"
    return output, errors


def check_summary(output, errors, folder, least_accuracy):
    """`folder` is what the program had as its working directory."""
    accuracy = re.search(r"^accuracy: +(\d\.\d+)$", output, re.MULTILINE)
    assert accuracy, output
    assert float(accuracy[1]) > least_accuracy
    picture = folder / re.search(r"^picture: +(.+)$", output, re.MULTILINE)[1]
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content.endswith(b"IEND\xaeB`\x82")
    assert re.match(r"train: first line after imports \d+\.\d{3} s after process start\n", errors)
    assert "\r" not in errors, "a progress bar, though stderr is no terminal"


def trial_states(database):
    connection = sqlite3.connect(database)
    try:
        return [state for (state,) in connection.execute("SELECT state FROM trials")]
    finally:
        connection.close()


def check_trials(database, count):
    states = trial_states(database)
    assert len(states) == count
    assert set(states) <= {"COMPLETE", "PRUNED"}
    assert "COMPLETE" in states


@pytest.mark.slow  # 20 s each.
@pytest.mark.parametrize("image", ["0", "1"])
def test_four_threads_train_and_draw_the_history(tmp_path, image):
    process = start(*TRAIN, "--trials", 8, "--jobs", 4, cwd=tmp_path, env={"PYLAUNCH_IMAGE": image})
    check_summary(*finish(process), tmp_path, least_accuracy=0.6)
    check_trials(tmp_path / "train-output" / "study.db", 8)


def test_the_second_start_of_the_main_job_comes_from_an_image(tmp_path):
    flags = ["--cache", tmp_path / "cache", "--explain"]
    env = {"PYLAUNCH_SEAL": "wait"}
    told = [
        finish(start(*flags, *TRAIN, "--trials", 0, cwd=tmp_path, env=env))[1] for _ in range(2)
    ]
    asked = re.findall(r"settings: image by (.*/examples/configs.txt):\d+:1, exit fast", told[1])
    assert asked == [str(ROOT / "examples" / "configs.txt")]
    assert "explain: image: being made" in told[0]
    assert re.search(r"explain: image: /.*\.img$", told[1], re.MULTILINE), told[1]


@pytest.mark.full
def test_four_processes_share_one_storage(tmp_path):
    storage = ["--storage", f"sqlite:///{tmp_path / 'shared.db'}", "--study-name", "shared"]
    folders = [tmp_path / f"worker{number}" for number in range(4)]
    workers = []
    try:
        for folder in folders:
            folder.mkdir()
            workers.append(start(*TRAIN, *storage, "--trials", 1, "--jobs", 1, cwd=folder))
        # A worker that ends early sums up what there is by then: one trial, of any accuracy.
        for worker, folder in zip(workers, folders, strict=True):
            check_summary(*finish(worker), folder, least_accuracy=0)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    check_trials(tmp_path / "shared.db", 4)


@pytest.mark.full
def test_runs_as_the_child_of_process_1(tmp_path):
    allowed = subprocess.run([*AS_PID_1, "true"], capture_output=True, text=True)
    if allowed.returncode != 0:
        pytest.skip(f"unshare is not permitted here: {allowed.stderr.strip()}")
    probe = start("-c", "import os; print(os.getppid())", cwd=tmp_path, prefix=AS_PID_1)
    assert finish(probe)[0] == "1\n"
    process = start(*TRAIN, "--trials", 2, "--jobs", 2, cwd=tmp_path, prefix=AS_PID_1)
    check_summary(*finish(process), tmp_path, least_accuracy=0)
    check_trials(tmp_path / "train-output" / "study.db", 2)
