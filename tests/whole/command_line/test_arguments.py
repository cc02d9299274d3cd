# ruff: noqa: E501 - programs in tables read better on long lines.
"""What a module makes of sys.argv when it is preloaded, the program finds; and of no other start's arguments."""

import time

import pytest
from conftest import Runner, Tree
from imaged import RACY, restored

TAKES = {
    "in_place": "sys.argv[:] = [a for a in sys.argv if not a.startswith('--lib-')]",
    "another_list": "sys.argv = [a for a in sys.argv if not a.startswith('--lib-')]",
    "remove": "if '--lib-x' in sys.argv: sys.argv.remove('--lib-x')",
    "item": "\nif len(sys.argv) > 1: sys.argv[1] = sys.argv[1].upper()",
    "del": "del sys.argv[1:]",
    "unseen": "sys.argv = ['lib', 'more']",
    "extend": "sys.argv += ['--more']",
    "repeat": "sys.argv *= 2",
    "name": "sys.argv[0] = 'lib'",
    "clear": "sys.argv.clear()",
    "reversed": "seen = list(reversed(sys.argv))",
    "held": "held = sys.argv",
    "held_and_replaced": "held = sys.argv; sys.argv = ['lib']",
    "orig_argv": "seen = sys.orig_argv[1:]",
    "orig_argv_taken": "del sys.orig_argv[2:]",
    "main_file": "seen = getattr(sys.modules['__main__'], '__file__', None)",
    "prog": "import argparse; seen = argparse.ArgumentParser().prog",
}
PROGRAM = """import lib, sys
print(sys.argv, sys.orig_argv[1:], getattr(lib, "seen", None), getattr(lib, "held", None), getattr(lib, "held", None) is sys.argv)
"""
WAYS = {
    "script": ["prog.py"],
    "module": ["-m", "prog"],
    "package": ["-m", "pack.inner"],
    "command": ["-c", PROGRAM],
    "folder": ["pack"],
    "input": ["-"],
}
WORDS = [["a"], ["--lib-x", "b"], ["a"], []]


@pytest.fixture(scope="module")
def libs(tmp_path_factory):
    root = tmp_path_factory.mktemp("arguments")
    for name, source in TAKES.items():
        tree = Tree(root / name)
        tree.write({"lib.py": f"import sys\n{source}\n", "prog.py": PROGRAM})
        tree.write({f"pack/{x}.py": PROGRAM for x in ("inner", "__main__")})
        tree.write({"pack/__init__.py": ""})
    time.sleep(RACY)
    return root


def arguments(libs, name, way):
    env = {"PYTHONPATH": str(libs / name), "PYTHONDONTWRITEBYTECODE": "1"}
    return {"cwd": libs / name, "env": env, "input": PROGRAM if way == "input" else None}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", TAKES)
def test_what_preloading_makes_of_the_arguments_the_program_finds(lab, tmp_path, libs, name, way):
    lab.need_pylaunch()
    run = Runner(lab, "off", tmp_path, tmp_path)
    for words in WORDS:
        stock = run.stock(*WAYS[way], *words, **arguments(libs, name, way))
        got = run(
            *WAYS[way], *words, flags=["--preload", "import lib"], **arguments(libs, name, way)
        )
        assert (words, got) == (words, stock)
        assert stock.code == 0


@pytest.mark.parametrize("way", ["script", "module", "command"])
@pytest.mark.parametrize("name", TAKES)
def test_a_restored_process_has_its_own_arguments_less_what_was_taken(image, libs, name, way):
    kwargs = arguments(libs, name, way)
    del kwargs["input"]
    used = 0
    for words in WORDS:
        stock = image.stock(*WAYS[way], *words, **kwargs)
        for _ in range(2):
            got = image(*WAYS[way], *words, preload=["import lib"], **kwargs)
            assert (words, got.code, got.out) == (words, 0, stock.out), got.err
        used += restored(got)
    assert used == len(WORDS)


def test_an_image_is_for_the_module_whose_path_was_asked_for(image, libs):
    kwargs = arguments(libs, "main_file", "module")
    del kwargs["input"]
    for module in ("prog", "pack", "prog"):
        stock = image.stock("-m", module, **kwargs)
        for _ in range(2):
            got = image("-m", module, preload=["import lib"], **kwargs)
            assert got.out == stock.out, got.err
        assert restored(got), got.err


def test_an_image_is_for_every_command_if_nobody_asked_for_it(image, libs):
    kwargs = arguments(libs, "held", "command")
    del kwargs["input"]
    image("-c", PROGRAM, "a", preload=["import lib"], **kwargs)
    got = image(
        "-c", "import lib, sys; print(sys.argv, lib.held)", "b", preload=["import lib"], **kwargs
    )
    assert restored(got) and got.out == "['-c', 'b'] ['-c', 'b']\n", got.err
