"""`python -m pylaunch ARGUMENTS`: `pylaunch ARGUMENTS` on this very Python, in the same process."""

import os
import sys

from pylaunch import command

if __name__ == "__main__":
    try:
        words = command()
    except FileNotFoundError as error:
        sys.exit(f"pylaunch: error: {error}\n  hint:  install pylaunch again, with pip or uv")
    os.execv(words[0], [*words, *sys.argv[1:]])
