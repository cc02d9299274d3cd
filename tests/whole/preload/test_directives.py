"""A preload file may say how to start and to end: `use image`, `use exit fast`, `use exit full`."""

import re
import time

import pytest
from conftest import finish, start
from imaged import RACY

# Whether the process was restored from an image.
PROGRAM = "import os; print(os.path.basename(os.readlink('/proc/self/exe')) == 'pylaunch-restore')"
FAST = "pylaunch: explain: exit: fast"


@pytest.fixture
def write(tmp_path):
    """Writes a preload file that is old enough to prove something; returns its path."""

    def write(text, name="list.txt"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def settings(result) -> str:
    """What --explain says of them, without the folder of files."""
    (line,) = re.findall(r"^pylaunch: explain: settings: (.*)$", result.err, re.M)
    return re.sub(r"/\S*/", "", line)


def preload(*files):
    return [f"--preload={file}" for file in files]


def test_use_image_does_what_the_option_does(ours, write, tree):
    tree.write({"m.py": "print('m is imported')\n", "main.py": PROGRAM})
    time.sleep(RACY)
    file = write("use image\nimport m\n")
    env = {"PYTHONPATH": str(tree), "PYLAUNCH_SEAL": "wait"}
    command = [tree / "main.py"]
    first = ours.again(*command, flags=preload(file), env=env)
    assert (first.code, first.out, first.err) == (0, "m is imported\nFalse\n", "")
    second = ours.again(*command, flags=preload(file), env=env)
    assert (second.code, second.out, second.err) == (0, "m is imported\nTrue\n", "")
    # The very same image: what a file asks for is no part of what an image holds.
    write("# no directive\nimport m\n")
    assert ours.again(*command, flags=preload(file), env=env).out == "m is imported\nFalse\n"
    by_option = ours.again(*command, flags=["--image", *preload(file)], env=env)
    assert by_option.out == "m is imported\nTrue\n"


SETTINGS = {
    # What the file says, options, variables: what --explain tells, and whether the exit is fast.
    "nobody": ("", [], {}, "no image, exit fast by default", True),
    "file": ("use exit full", [], {}, "no image, exit full by list.txt:1:1", False),
    "file, fast": ("\nuse exit fast", [], {}, "no image, exit fast by list.txt:2:1", True),
    "variable": (
        "use exit full",
        [],
        {"PYLAUNCH_EXIT": "fast"},
        "no image, exit fast by PYLAUNCH_EXIT",
        True,
    ),
    "flag": (
        "use exit fast",
        ["--exit=full"],
        {"PYLAUNCH_EXIT": "fast"},
        "no image, exit full by --exit",
        False,
    ),
    "image": ("use image", [], {}, "image by list.txt:1:1, exit fast by default", True),
    "no image": (
        "use image",
        [],
        {"PYLAUNCH_IMAGE": "0"},
        "no image by PYLAUNCH_IMAGE, exit fast by default",
        True,
    ),
    "image, variable": (
        "use image",
        [],
        {"PYLAUNCH_IMAGE": "1"},
        "image by PYLAUNCH_IMAGE, exit fast by default",
        True,
    ),
    "image, flag": (
        "use exit full",
        ["--image"],
        {"PYLAUNCH_IMAGE": "no"},
        "image by --image, exit full by list.txt:1:1",
        False,
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_flag_wins_over_variable_over_file(ours, write, name):
    says, flags, env, expected, fast = SETTINGS[name]
    file = write(f"{says}\nimport json\n")
    done = ours.again("-c", "pass", flags=["--explain", *preload(file), *flags], env=env)
    assert done.code == 0
    assert settings(done) == expected
    assert (FAST in done.err) == fast
    assert ("explain: image: " in done.err) == expected.startswith("image by")


def test_nothing_is_told_where_nothing_is_preloaded(ours):
    assert "settings" not in ours.again("-c", "pass", flags=["--explain"]).err


def test_one_line_on_the_command_line_may_be_a_directive(ours):
    flags = ["--explain", *preload("use exit full", "import json")]
    assert settings(ours.again("-c", "pass", flags=flags)) == "no image, exit full by --preload:1:1"


WRONG = {
    "unknown": ("use images", "unknown word after 'use'"),
    "nothing": ("use", "expected 'image' or 'exit' after 'use'"),
    "mode": ("use exit slow", "unknown word after 'use exit'"),
    "both": ("use exit full", "'use exit full' contradicts another line"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_directive_is_told_before_anything_runs(ours, write, name):
    line, says = WRONG[name]
    file = write(f"use exit fast\n{line}\nimport json\n")
    done = ours.again("-c", PROGRAM, flags=preload(file))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"pylaunch: error: {file}:2:") and says in done.err
    assert "\n  hint:  " in done.err
    assert (f"\n  cause: {file}:1:1 says 'use exit fast'\n" in done.err) == (name == "both")


def test_files_that_contradict_each_other(ours, write):
    one, two = write("use exit fast\n"), write("import json\nuse exit full\n", "two.txt")
    done = ours.again("-c", PROGRAM, flags=preload(one, two))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"pylaunch: error: {two}:2:1: ") and f"{one}:1:1" in done.err
    # The variable's and the flag's are several files, too.
    env = {"PYLAUNCH_PRELOAD": f"@{one}"}
    assert ours.again("-c", PROGRAM, flags=preload(two), env=env).code == 2


def test_children_obey_the_file_that_the_variable_names(ours, installed, write, tree):
    file = write("use image\nimport json\n")
    child = f"subprocess.run([sys.executable, '-c', {PROGRAM!r}])"
    tree.write({"main.py": f"import subprocess, sys\n{child}\n"})
    time.sleep(RACY)
    variables = {"PYLAUNCH_CACHE": str(ours.warm_cache), "PYLAUNCH_SEAL": "wait"}
    main = [str(installed / "bin/pylaunch"), str(tree / "main.py")]

    def run(*flags, **env):
        argv = [main[0], *flags, main[1]]
        code, out, err = finish(start(argv, ours.env({**variables, **env}), tree.root))
        assert (code, err) == (0, b"")
        return out.decode()

    named = {"PYLAUNCH_PRELOAD": f"@{file}"}
    run(**named)
    assert run(**named) == "True\n"
    assert run(**named, PYLAUNCH_IMAGE="0") == "False\n"
    assert run(*preload(file)) == "False\n", "a flag is for one process"


def test_what_makes_no_process_image_takes_no_notice(ours, write, tmp_path):
    file = write("use image\nimport json\n")
    for action in (["--build"], [f"--export={tmp_path}/out"], ["--stats"], ["--verify"]):
        assert ours.again(flags=["--explain", *preload(file), *action]).code == 0, action
    assert not list((ours.warm_cache / "images").glob("*"))
    made = ours.again("-c", "pass", flags=[*preload(file), "--image-build"])
    assert made.code == 0 and "made in" in made.out
