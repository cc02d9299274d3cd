"""Well-known packages do from an image what they do under stock.

Slow: PYLAUNCH_ECOSYSTEM=full runs it. PYLAUNCH_PACKAGES_PYTHON names a Python that has
tests/programs/image_packages/requirements.txt already; else a throw-away environment is made.
"""

import os
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, Result
from imaged import RACY, Imaged, reason, restored

sys.path.insert(0, str(ROOT / "tests" / "conformance"))
from layout import make_prefix

PROGRAMS = ROOT / "tests/programs/image_packages"
NAMES = sorted(x.stem.removeprefix("with_") for x in PROGRAMS.glob("with_*.py"))
# Of what preloading leaves, the first start finds out, so that the second makes the image.
LATE = {"polars": "'import polars' left a thread: polars-ooc-clea"}


def having(word: str) -> list[str]:
    """The packages whose program has such a line."""
    return [x for x in NAMES if f"# {word}: " in (PROGRAMS / f"with_{x}.py").read_text()]


pytestmark = pytest.mark.skipif(
    os.environ.get("PYLAUNCH_ECOSYSTEM") != "full", reason="slow: PYLAUNCH_ECOSYSTEM=full runs it"
)


@pytest.fixture(scope="module")
def python(lab, tmp_path_factory) -> str:
    lab.need_pylaunch()
    named = os.environ.get("PYLAUNCH_PACKAGES_PYTHON")
    if named:
        return named
    folder = tmp_path_factory.mktemp("packages") / "venv"
    requirements = PROGRAMS / "requirements.txt"
    return str(make_prefix(str(lab.python), lab.pylaunch.parent, folder, requirements).stock)


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Path:
    """The programs where nothing else is; they are old enough by the time an image is made."""
    folder = tmp_path_factory.mktemp("programs")
    for path in PROGRAMS.glob("*.py"):
        shutil.copy(path, folder)
    time.sleep(RACY)
    return folder


@pytest.fixture
def image(lab, python, tmp_path) -> Imaged:
    image = Imaged(lab, tmp_path / "image")
    image.python = python
    return image


def header(program: Path, word: str) -> list[str]:
    return re.findall(rf"^# {word}: (.*)$", program.read_text(), re.M)


def complaints(result: Result) -> set[str]:
    """But for absl's log lines of severity "info": when gRPC writes some, threads decide."""
    lines = result.without_pylaunch_lines().err.splitlines()
    return {x for x in lines if not re.match(r"I\d{4} [\d:.]+ ", x)}


def compile_once(image: Imaged, preload) -> None:
    """Installed packages are compiled by their first import, which makes their folders young."""
    done = image.stock("-c", "\n".join(preload))
    assert done.code == 0, done.err
    time.sleep(RACY)


@pytest.mark.parametrize("name", NAMES)
def test_package_works_from_an_image(image, programs, name):
    program = programs / f"with_{name}.py"
    preload = header(program, "preload")
    compile_once(image, preload)
    expected = image.stock(program)
    assert expected.code == 0, expected.err
    made = image(program, preload=preload)
    assert (name in LATE) == ("image: not made: " in made.err), made.err
    assert LATE.get(name, "") in made.err
    assert (made.code, made.out) == (0, expected.out), made.err
    if name in LATE:
        image(program, preload=preload)
    for _ in range(3):
        got = image(program, preload=preload)
        assert (got.code, got.out) == (0, expected.out), got.err
        assert restored(got), (reason(got), made.err)
        assert complaints(got) <= complaints(expected)  # Preloading has warned when it was made.


@pytest.mark.parametrize("name", having("draws"))
def test_package_draws_other_numbers_in_every_process(image, programs, name):
    """What it draws by chance under stock, it draws by chance from an image."""
    program = programs / f"with_{name}.py"
    preload = header(program, "preload")
    compile_once(image, preload)
    draw = "\n".join([*preload, *header(program, "draws")])
    for _ in range(1 + (name in LATE)):
        image("-c", draw, preload=preload)
    runs = [image("-c", draw, preload=preload) for _ in range(3)]
    assert all(restored(x) for x in runs), runs
    assert all(x.code == 0 and x.out for x in runs), runs
    lines = [line for run in runs for line in run.out.splitlines()]
    assert len(set(lines)) == len(lines), runs


@pytest.mark.parametrize("name", having("varies"))
def test_variables_count_that_a_package_has_read(image, programs, name):
    """Each makes what the package is when it is imported another, whoever in it reads it how."""
    program = programs / f"with_{name}.py"
    preload = header(program, "preload")
    compile_once(image, preload)
    image("-c", "pass", preload=preload)
    assert image.images()
    for line in header(program, "varies"):
        setting, show = line.split(": ", 1)
        show = "\n".join(["from threadpoolctl import threadpool_info", *preload, show])
        env = dict([setting.split("=", 1)])
        expected = image.stock("-c", show, env=env)
        assert expected.code == 0, expected.err
        assert expected.out != image.stock("-c", show).out
        for _ in range(2):
            assert image("-c", show, preload=preload, env=env).out == expected.out, line


def test_what_was_not_preloaded_is_imported_after_a_restore(image, programs):
    """Libraries come into a restored process as into any other, with threads and all."""
    wrong = {}
    image("-c", "pass", preload=["import numpy"])
    for name in NAMES:
        program = programs / f"with_{name}.py"
        expected = image.stock(program)
        image(program, preload=["import numpy"])
        got = image(program, preload=["import numpy"])
        assert restored(got), reason(got)
        if (got.code, got.out) != (expected.code, expected.out):
            wrong[name] = (expected, got)
    assert not wrong
