"""Writes what --record and --report ask for.

Run by the engine when the program has ended (launcher/engine/journal/journal_report.cc), as a
process of its own with the program's Python, isolated: only the standard library can be imported.
The argument is a descriptor that holds the journal.
"""

import importlib.util
import os
import signal
import sys


def load(folder: str):
    """The package of this folder, whose name would hide modules of the standard library."""
    name = "pylaunch_report"
    spec = importlib.util.spec_from_file_location(
        name, f"{folder}/__init__.py", submodule_search_locations=[folder]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return importlib.import_module(f"{name}.files")


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ended the program; this takes a moment.
    with os.fdopen(int(sys.argv[1]), "rb") as file:
        data = file.read() if file.seek(0) == 0 else b""
    return load(os.path.dirname(os.path.abspath(__file__))).write(data)


if __name__ == "__main__":
    sys.exit(main())
