"""Is this the environment that was meant?"""

from __future__ import annotations

import os
import re
import sys

from .model import FAILURE, OK, WARNING, Finding, Surroundings

FAMILY = "environment"
NAMES = (".venv", "venv", "env")


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _is_environment(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, "pyvenv.cfg"))


def _project_folders(start: str, home: str) -> list[str]:
    """`start` and what is above it, up to the folder that has .git but below the home folder."""
    folders = []
    folder = start
    while folder not in ("/", home) and not home.startswith(f"{folder}/"):
        folders.append(folder)
        if os.path.exists(os.path.join(folder, ".git")):
            return folders
        folder = os.path.dirname(folder)
    return folders[:1]  # No repository: what lies above says nothing about this folder.


def project_environment(s: Surroundings) -> str:
    """The virtual environment that lies in the project's folder, or an empty string."""
    home = os.path.realpath(s.environ.get("HOME") or "/nonexistent")
    starts = [os.path.dirname(s.script)] if s.script else []
    for start in [*starts, s.cwd]:
        for folder in _project_folders(os.path.realpath(start), home):
            for name in NAMES:
                if _is_environment(os.path.join(folder, name)):
                    return os.path.join(folder, name)
    return ""


def _configuration(prefix: str) -> dict[str, str]:
    try:
        with open(os.path.join(prefix, "pyvenv.cfg"), encoding="utf-8", errors="replace") as file:
            pairs = (line.partition("=") for line in file)
            return {key.strip().lower(): value.strip() for key, _, value in pairs}
    except OSError:
        return {}


def _variable(s: Surroundings) -> list[Finding]:
    named = s.environ.get("VIRTUAL_ENV", "")
    if not named:
        return []
    what = "VIRTUAL_ENV names the environment that runs"
    activate = "run 'deactivate', or unset VIRTUAL_ENV"
    if not os.path.isdir(named):
        return [
            Finding(
                FAMILY, FAILURE, what, f"VIRTUAL_ENV is {named}, which does not exist", activate
            )
        ]
    if not _is_environment(named):
        cause = f"VIRTUAL_ENV is {named}, which is no virtual environment (no pyvenv.cfg)"
        return [Finding(FAMILY, FAILURE, what, cause, activate)]
    if _same(named, s.prefix):
        return [Finding(FAMILY, OK, what)]
    status = WARNING if s.asked else FAILURE
    cause = f"VIRTUAL_ENV is {named}, but the Python that runs is that of {s.prefix}"
    hint = f"run {named}/bin/python (pylaunch --python {named}), or unset VIRTUAL_ENV"
    return [Finding(FAMILY, status, what, cause, hint)]


def _project(s: Surroundings) -> list[Finding]:
    there = project_environment(s)
    if not there or _same(there, s.prefix):
        return [Finding(FAMILY, OK, "the project's own environment runs")] if there else []
    what = f"the project's environment {there} runs"
    hint = f". {there}/bin/activate, or pylaunch --python {there}"
    if s.prefix == s.base_prefix and not s.asked and not s.environ.get("CONDA_PREFIX"):
        cause = (
            f"no virtual environment is active: {s.python} runs, "
            "and sees nothing of what is installed there"
        )
        return [Finding(FAMILY, FAILURE, what, cause, hint)]
    return [Finding(FAMILY, WARNING, what, f"{s.python} runs, of {s.prefix}", hint)]


def _version(s: Surroundings) -> list[Finding]:
    if s.prefix == s.base_prefix:
        return []
    config = _configuration(s.prefix)
    version = config.get("version") or config.get("version_info") or ""
    made_for = re.match(r"(\d+)\.(\d+)", version)
    runs = f"{sys.version_info[0]}.{sys.version_info[1]}"
    what = "the environment was made for the Python that runs"
    if not made_for or made_for.group(0) == runs:
        return [Finding(FAMILY, OK, what)]
    cause = (
        f"{s.prefix} was made for Python {made_for.group(0)}, but {s.python} is {runs} now: "
        f"what was installed for {made_for.group(0)} is not seen"
    )
    return [Finding(FAMILY, FAILURE, what, cause, f"make the environment anew with Python {runs}")]


def check(s: Surroundings) -> list[Finding]:
    return [*_variable(s), *_project(s), *_version(s)]
