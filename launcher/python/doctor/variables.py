"""Variables that name folders, or commands, that are not there."""

from __future__ import annotations

import os
import shlex
import shutil

from .model import FAILURE, OK, WARNING, Finding, Surroundings

FAMILY = "variables"
# CUDA_HOME and PYTHONPATH are set on purpose; the others often have entries that nobody chose.
ONE_FOLDER = ("CUDA_HOME", "CUDA_PATH")
LISTS = {"PYTHONPATH": FAILURE, "LD_LIBRARY_PATH": WARNING, "PATH": WARNING}
COMMANDS = ("CC", "CXX", "CUDACXX")


def _folder(s: Surroundings, name: str) -> Finding:
    value = s.environ[name]
    what = f"{name} names a folder that exists"
    if os.path.isdir(value):
        return Finding(FAMILY, OK, what)
    hint = f"unset {name}, or set it to where the CUDA toolkit is"
    nvcc = shutil.which("nvcc", path=s.environ.get("PATH"))
    if nvcc:
        hint += f" (nvcc on PATH is {nvcc})"
    return Finding(FAMILY, FAILURE, what, f"{name} is {value}, which does not exist", hint)


def _list(s: Surroundings, name: str, status: str) -> Finding:
    what = f"every entry of {name} exists"
    entries = [p for p in s.environ[name].split(":") if p]
    dead = [p for p in dict.fromkeys(entries) if not os.path.exists(os.path.join(s.cwd, p))]
    if not dead:
        return Finding(FAMILY, OK, what)
    cause = f"{name} has {', '.join(dead)}, which {'does' if len(dead) == 1 else 'do'} not exist"
    return Finding(FAMILY, status, what, cause, f"remove it from {name}", {"dead": dead})


def _command(s: Surroundings, name: str) -> Finding:
    value = s.environ[name]
    what = f"{name} names a compiler that exists"
    try:
        words = shlex.split(value)
    except ValueError:
        words = [value]
    if words and shutil.which(words[0], path=s.environ.get("PATH", os.defpath)):
        return Finding(FAMILY, OK, what)
    hint = f"unset {name}, or install {words[0] if words else value}"
    return Finding(FAMILY, FAILURE, what, f"{name} is {value}, which is no command", hint)


def check(s: Surroundings) -> list[Finding]:
    found = [_folder(s, name) for name in ONE_FOLDER if s.environ.get(name)]
    found += [_list(s, name, status) for name, status in LISTS.items() if s.environ.get(name)]
    return found + [_command(s, name) for name in COMMANDS if s.environ.get(name)]
