"""coverage measures code of one's own that was preloaded, too, from an image as well
(docs/preload.md)."""

import json
import os
import subprocess
import sys
import time

import pytest
from conftest import AGE, clean_environment

MINE = """
def used(): pass
def by_program():
    pass
def never():
    pass
x = used()
"""


@pytest.fixture(scope="module")
def environment(lab, tmp_path_factory):
    lab.need_pylaunch()
    prefix = tmp_path_factory.mktemp("coverage") / "venv"
    subprocess.run([lab.python, "-m", "venv", "--without-pip", prefix], check=True)
    pip = [sys.executable, "-m", "pip", "--python", prefix / "bin/python", "install", "-q"]
    subprocess.run([*pip, "coverage==7.17.5"], check=True, capture_output=True)
    return prefix


def test_preloaded_code_is_measured(environment, lab, tmp_path):
    source, told = tmp_path / "source", tmp_path / "told"
    source.mkdir()
    told.mkdir()
    (source / "mine.py").write_text(MINE)
    rc = tmp_path / "coveragerc"
    rc.write_text(f"[run]\ndata_file = {told}/data\nsource = {source}\nparallel = true\n")
    env = clean_environment(
        lab.home,
        PYTHONPATH=str(source),
        PYTHONDONTWRITEBYTECODE="1",
        COVERAGE_PROCESS_START=str(rc),
        PYLAUNCH_CACHE=str(tmp_path / "cache"),
        PYLAUNCH_SEAL="wait",
    )
    for path in (source / "mine.py", source, rc):
        os.utime(path, (time.time() - AGE,) * 2)
    time.sleep(2.2)  # An image takes change times for what they are.
    ours = [lab.pylaunch, "--python", environment, "--explain", "--preload", "import mine"]
    said = ""
    for launch in ([environment / "bin/python"], ours, [*ours, "--image"], [*ours, "--image"]):
        program = [*launch, "-c", "import mine; mine.by_program()"]
        done = subprocess.run(program, cwd=tmp_path, env=env, capture_output=True, text=True)
        said = done.stderr
        assert done.returncode == 0, said
        (data,) = told.iterdir()
        report = [environment / "bin/coverage", "json", "-q", f"--data-file={data}", "-o", "-"]
        found = json.loads(subprocess.check_output(report, cwd=tmp_path, text=True))
        (lines,) = found["files"].values()
        assert lines["missing_lines"] == [6], launch
        data.unlink()
    assert "explain: image: /" in said, "the last one was restored"
