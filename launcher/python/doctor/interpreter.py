"""Was this Python built with all of the standard library?

CPython's build leaves out, with no more than a line on the screen, each extension module whose
library's headers are not there (pyenv, python-build, a Dockerfile's `make install`). No pip command
brings it back.
"""

from __future__ import annotations

import os
import sys

from .model import OK, WARNING, Finding, Surroundings

FAMILY = "interpreter"
# Module: Debian's package with the headers, what is gone with it.
NEEDS = {
    "_bz2": ("libbz2-dev", "bz2"),
    "_ctypes": ("libffi-dev", "ctypes"),
    "_hashlib": ("libssl-dev", "OpenSSL's digests"),
    "_lzma": ("liblzma-dev", "lzma"),
    "_sqlite3": ("libsqlite3-dev", "sqlite3"),
    "_ssl": ("libssl-dev", "ssl, and https with it"),
    "_zstd": ("libzstd-dev", "compression.zstd"),
    "readline": ("libreadline-dev", "editing and history at the prompt"),
    "zlib": ("zlib1g-dev", "zlib, and gzip and zip files with it"),
}
# Names of the modules that import them.
IMPORTERS = {"bz2": "_bz2", "ctypes": "_ctypes", "lzma": "_lzma", "sqlite3": "_sqlite3"}


def missing(s: Surroundings) -> list[str]:
    """Those that neither are built in nor lie where extensions of the standard library do."""
    folders = [os.path.join(s.stdlib, "lib-dynload"), *s.path]
    there = set(sys.builtin_module_names)
    for folder in folders:
        if os.path.basename(folder) == "lib-dynload" and os.path.isdir(folder):
            there.update(x.partition(".")[0] for x in os.listdir(folder))
    known = [name for name in NEEDS if name != "_zstd" or sys.version_info >= (3, 14)]
    return [name for name in known if name not in there]


def _of_debian(s: Surroundings) -> bool:
    return s.base_prefix == "/usr" and os.path.isdir("/usr/lib/python3/dist-packages")


def advice(s: Surroundings, names: list[str]) -> str:
    if _of_debian(s):
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        return f"no pip command helps: apt-get install libpython{version}-stdlib"
    packages = dict.fromkeys(NEEDS[name][0] for name in names)
    return (
        "no pip command helps: install the headers (Debian: apt-get install "
        f"{' '.join(packages)}), then build this Python again"
    )


def _told(s: Surroundings, names: list[str]) -> str:
    gone = ", ".join(f"{name} ({NEEDS[name][1]})" for name in names)
    return f"{os.path.realpath(s.python)} was built without {gone}"


def check(s: Surroundings) -> list[Finding]:
    what = "this Python was built with all of the standard library"
    names = missing(s)
    if not names:
        return [Finding(FAMILY, OK, what)]
    return [Finding(FAMILY, WARNING, what, _told(s, names), advice(s, names), {"missing": names})]


def explain(s: Surroundings, name: str) -> tuple[str, str] | None:
    """Of a module that was not found."""
    name = IMPORTERS.get(name, name)
    if name not in NEEDS or name not in missing(s):
        return None
    return _told(s, [name]), advice(s, [name])
