"""`python -m pylaunch ARGUMENTS` is `pylaunch ARGUMENTS`, in the same process."""

import os
import sys

from pylaunch import find_pylaunch_bin

if __name__ == "__main__":
    try:
        program = find_pylaunch_bin()
    except FileNotFoundError as error:
        sys.exit(f"pylaunch: error: {error}\n  hint:  install pylaunch again, with pip or uv")
    os.execv(program, [program, *sys.argv[1:]])
