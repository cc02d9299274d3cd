"""Finds the program `pylaunch` that was installed with this module, and says how to start it.

pylaunch is a program of its own: it starts warm, and then is the ordinary Python with your program
in it. This module is for programs that start others. It imports `os` and `sys`, and starts nothing.
"""

from __future__ import annotations

import os
import sys

__all__ = ["command", "find_pylaunch_bin"]


def find_pylaunch_bin() -> str:
    """The absolute path of the `pylaunch` that was installed with this module.

    It stands where pip and uv put scripts, at a distance from this module that is known, so no
    other environment's can be taken for it. PATH is not searched.

    FileNotFoundError: there is none; the message names each place. Somebody copied this module
    without the rest.
    """
    packages = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # PREFIX/lib/python3.11/site-packages, of environments, of users and of --prefix; --target.
    prefixes = (os.path.abspath(os.path.join(packages, "../../..")), packages)
    places = [os.path.join(prefix, "bin", "pylaunch") for prefix in prefixes]
    for path in places:
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise FileNotFoundError(f"no pylaunch beside {__file__}: looked for {', '.join(places)}")


def command(
    *, preload: str | os.PathLike[str] | list[str | os.PathLike[str]] = (), image: bool = False
) -> list[str]:
    """The words to put before a program and its arguments, to start it warm on this very Python.

        subprocess.run([*pylaunch.command(preload="configs.txt", image=True), "train.py"])
        py_executable = shlex.join(pylaunch.command())

    `preload`: what --preload takes, or a list of that. A string that begins with "@", contains "/"
    or ends in ".txt" is a preload file, as is a path object; every other string is a line such as
    "import torch". Files are taken from the working directory of now. `image`: start from an image
    of the preloaded process; the first start makes it.

    The words hold paths with whatever is in them: `shlex.join` makes one string for a shell of
    them. They mean the same in every folder and under every PATH, on this machine.

    FileNotFoundError: as find_pylaunch_bin.
    """
    one = isinstance(preload, (str, os.PathLike))
    words = [find_pylaunch_bin()]
    if python := _this_python():
        words.append(f"--python={python}")
    for entry in [preload] if one else preload:
        words.append(f"--preload={_absolute(entry)}")
    return [*words, "--image"] if image else words


def _absolute(entry: str | os.PathLike[str]) -> str:
    if not isinstance(entry, str):
        return f"@{os.path.abspath(entry)}"
    is_file = entry.startswith("@") or "/" in entry or entry.endswith(".txt")
    return f"@{os.path.abspath(entry.removeprefix('@'))}" if is_file else entry


def _this_python() -> str:
    """As --python wants it: in a virtual environment sys.executable may be pylaunch itself."""
    return sys.prefix if sys.prefix != sys.base_prefix else sys.executable
