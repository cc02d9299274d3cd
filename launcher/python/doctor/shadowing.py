"""Does a file or folder of the project stand in front of a module of the same name?"""

from __future__ import annotations

import _imp
import importlib.machinery
import os
import sys

from .distributions import Inventory
from .model import FAILURE, OK, Finding, Surroundings

FAMILY = "shadowing"
SUFFIXES = tuple(importlib.machinery.all_suffixes())
# Found in front of every other module, or never imported by anyone but whom they belong to.
HARMLESS = {
    "test",
    "tests",
    "this",
    "antigravity",
    "idlelib",
    "lib2to3",
    "setup",
    "conftest",
    "docs",
    "examples",
}


def _module_in(folder: str, entry: str) -> str:
    """The name of the module that `entry` of `folder` is, or an empty string."""
    path = os.path.join(folder, entry)
    for suffix in SUFFIXES:
        if entry.endswith(suffix):
            return entry.removesuffix(suffix)
    # A folder without __init__ is a namespace: any module of that name further on wins.
    if any(os.path.isfile(os.path.join(path, f"__init__{suffix}")) for suffix in SUFFIXES):
        return entry
    return ""


def _in_stdlib(s: Surroundings, name: str) -> bool:
    if name not in sys.stdlib_module_names or name in sys.builtin_module_names:
        return False
    return not _imp.is_frozen(name)


def _installed(inventory: Inventory, folder: str, name: str) -> str:
    """The distribution whose module `name` lies behind `folder`, or an empty string."""
    for dist in inventory.by_import_name.get(name, []):
        if os.path.realpath(dist.root) != os.path.realpath(folder):
            return str(dist)
    return ""


def find(s: Surroundings, inventory: Inventory) -> list[Finding]:
    found = []
    fronts = [os.path.realpath(p) for p in s.front]
    sites = {os.path.realpath(dist.root) for dist in inventory.all}
    for folder in dict.fromkeys(fronts):
        if folder in sites:  # An installation's own folder, put in front.
            continue
        try:
            entries = sorted(os.listdir(folder))
        except OSError:
            continue
        for entry in entries:
            name = _module_in(folder, entry)
            if not name.isidentifier() or name in HARMLESS:
                continue
            path = os.path.join(folder, entry)
            if _in_stdlib(s, name):
                real = f"the standard library's '{name}'"
            else:
                installed = _installed(inventory, folder, name)
                real = installed and f"'{name}' of {installed}"
            if not real:
                continue
            cause = f"{path} is found first when anything imports '{name}'"
            hint = f"rename {path}"
            if not s.script and folder == os.path.realpath(s.cwd):
                hint += ", or start the program from elsewhere"
            found.append(
                Finding(
                    FAMILY,
                    FAILURE,
                    f"nothing stands in front of {real}",
                    cause,
                    hint,
                    {"module": name},
                )
            )
    return found


def check(s: Surroundings, inventory: Inventory) -> list[Finding]:
    what = "no module of the project stands in front of an installed one"
    return find(s, inventory) or [Finding(FAMILY, OK, what)]
