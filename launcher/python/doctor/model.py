"""What checks take and give."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

OK, WARNING, FAILURE = "ok", "warning", "failure"


@dataclass(frozen=True)
class Finding:
    """One line of the report. `cause` and `hint` are for what is not OK; `details` for --json."""

    family: str
    status: str
    what: str
    cause: str = ""
    hint: str = ""
    details: Mapping = field(default_factory=dict)


@dataclass
class Surroundings:
    """The environment that the program would have."""

    program_path: list[str]  # sys.path at the program's first line.
    python: str  # The executable.
    environ: Mapping[str, str]
    cwd: str
    script: str = ""  # Absolute path of the program; empty for -c, -m and none.
    why: str = ""  # Why this Python was chosen.
    asked: str = ""  # --python as given.
    prefix: str = sys.prefix
    base_prefix: str = sys.base_prefix

    @cached_property
    def path(self) -> list[str]:
        """program_path, absolute, without repetitions."""
        return list(
            dict.fromkeys(os.path.abspath(os.path.join(self.cwd, p)) for p in self.program_path)
        )

    @cached_property
    def stdlib(self) -> str:
        return os.path.dirname(os.path.abspath(os.__file__))

    @cached_property
    def front(self) -> list[str]:
        """What is looked at before the standard library: the program's folder, PYTHONPATH."""
        zipped = (
            f"{os.path.dirname(self.stdlib)}/python{sys.version_info[0]}{sys.version_info[1]}.zip"
        )
        front = []
        for folder in self.path:
            if folder == zipped or os.path.realpath(folder) == os.path.realpath(self.stdlib):
                break
            front.append(folder)
        return front

    @cached_property
    def folders(self) -> list[str]:
        """Folders that may hold distributions."""
        own = {self.stdlib, os.path.join(self.stdlib, "lib-dynload")}
        return [p for p in self.path if p not in own and os.path.isdir(p)]

    def pip(self, arguments: str) -> str:
        """A command that changes this environment."""
        return f"{self.python} -m pip {arguments}"


def _first_of_path(words: list[str]) -> tuple[str | None, str]:
    """sys.path[0] and the script (Modules/main.c, pymain_run_python)."""
    word = words[0] if words else "-"
    if word == "-" or (word.startswith("-") and "c" in word):
        return "", ""
    if word.startswith("-"):
        return os.getcwd(), ""
    script = os.path.realpath(word)
    runnable = os.path.isdir(word) or word.endswith((".zip", ".pyz"))
    return (os.path.abspath(word) if runnable else os.path.dirname(script)), script


def surroundings(request: dict, words: list[str], path: list[str]) -> Surroundings:
    words = words[1:] if words[:1] == ["--"] else words
    first, script = _first_of_path(words)
    safe = sys.flags.isolated or getattr(sys.flags, "safe_path", False)
    return Surroundings(
        program_path=path if safe else [first, *path],
        python=request.get("python") or sys.executable,
        environ=dict(os.environ),
        cwd=os.getcwd(),
        script=script,
        why=request.get("why", ""),
        asked=request.get("asked", ""),
    )
