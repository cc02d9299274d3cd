"""Finds the program `pylaunch` that was installed with this module, and says how to start it.

pylaunch is a program of its own: it starts warm, and then is the ordinary Python with your program
in it. This module is for programs that start others. Importing it imports nothing else but `os`,
`sys` and `sysconfig`, and starts nothing.
"""

from __future__ import annotations

import os
import sys
import sysconfig

__all__ = ["command", "find_pylaunch_bin"]


def find_pylaunch_bin() -> str:
    """The absolute path of the `pylaunch` that was installed with this module.

    It stands where pip and uv put scripts, at a distance from this module that is known, so no
    other environment's can be taken for it. PATH is not searched.

    FileNotFoundError: there is none; the message names each place. Somebody copied this module
    without the rest.
    """
    places = list(dict.fromkeys(_places()))
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

    `preload`: one preload file, or a list of files and lines such as `"import torch"`. A string
    with white space in it is a line; everything else is a file, taken from the working directory of
    now. `image`: start from an image of the preloaded process; the first start makes it.

    The words hold paths with whatever is in them: `shlex.join` makes one string for a shell of
    them. They mean the same in every folder and under every PATH, on this machine.

    FileNotFoundError: as find_pylaunch_bin.
    """
    one = isinstance(preload, (str, os.PathLike))
    words = [find_pylaunch_bin()]
    if python := _this_python():
        words.append(f"--python={python}")
    for entry in [preload] if one else preload:
        text = os.fspath(entry)
        is_line = isinstance(entry, str) and len(text.split()) > 1
        words.append(f"--preload={text}" if is_line else f"--preload=@{os.path.abspath(text)}")
    return [*words, "--image"] if image else words


def _this_python() -> str:
    """As --python wants it: in a virtual environment sys.executable may be pylaunch itself."""
    return sys.prefix if sys.prefix != sys.base_prefix else sys.executable


def _places():
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # site-packages
    for scheme in (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user")):
        for paths in _schemes(scheme):
            if here in (os.path.abspath(paths["purelib"]), os.path.abspath(paths["platlib"])):
                yield os.path.join(os.path.abspath(paths["scripts"]), "pylaunch")
    # PREFIX/lib/python3.11/site-packages (--prefix), and TARGET (--target).
    yield os.path.join(os.path.abspath(os.path.join(here, "../../..")), "bin", "pylaunch")
    yield os.path.join(here, "bin", "pylaunch")


def _schemes(name: str):
    """A scheme's paths here, and in the Python that this virtual environment was made by."""
    yield sysconfig.get_paths(name)
    yield sysconfig.get_paths(
        name, vars={"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    )
