"""Installations that were never finished, or never quite removed."""

from __future__ import annotations

import os
import re

from .distributions import Distribution, Inventory, normalized
from .model import FAILURE, OK, WARNING, Finding, Surroundings

FAMILY = "installations"


def half_installed(s: Surroundings, dist: Distribution) -> Finding | None:
    hint = f"{s.pip('install --force-reinstall --no-deps')} {dist.name}"
    lacks = ""
    if not re.search(r"^Name:", dist.metadata_text or "", re.MULTILINE):
        lacks = "METADATA"
    elif dist.record is None and dist.keeps_record:
        lacks = "RECORD"
    elif dist.record is not None and not dist.record:
        lacks = "anything in RECORD"
    if not lacks:
        return None
    cause = f"{dist.info} has no {lacks}: an installation that was cut off"
    return Finding(FAMILY, FAILURE, f"{dist} is completely installed", cause, hint)


def _twice(inventory: Inventory) -> list[Finding]:
    seen: dict[tuple[str, str], list[Distribution]] = {}
    for dist in inventory.all:
        seen.setdefault((dist.root, dist.key), []).append(dist)
    found = []
    for (root, _), dists in seen.items():
        if len(dists) > 1:
            versions = ", ".join(d.version for d in dists)
            cause = f"{root} says that {dists[0].name} is installed as {versions}"
            name = dists[0].name
            hint = f"pip uninstall {name}, until it says that it is not installed; then install it"
            found.append(
                Finding(FAMILY, FAILURE, f"{dists[0].name} is installed once", cause, hint)
            )
    return found


def _tilde(inventory: Inventory) -> list[Finding]:
    """What pip removes, it first renames ('~' for the first letter); it stays if pip is killed."""
    found = []
    for path in inventory.leftovers:
        name = os.path.basename(path)
        info = re.fullmatch(r"~+(.+?)-[^-]+\.dist-info", name)
        rest = normalized(info.group(1) if info else name.lstrip("~"))
        whole = any(key.endswith(rest) for key in inventory.by_key)
        if info and not whole:
            cause = (
                f"{path} is what pip left of a distribution '?{rest}' "
                "that it was replacing when it was cut off"
            )
            hint = "install that distribution again, then delete the folder"
            found.append(Finding(FAMILY, FAILURE, "no installation was cut off", cause, hint))
        else:
            cause = f"{path} is a leftover of a removal that was cut off"
            found.append(
                Finding(FAMILY, WARNING, "no leftovers of removals", cause, f"delete {path}")
            )
    return found


def check(s: Surroundings, inventory: Inventory) -> list[Finding]:
    half = [f for d in inventory.all if (f := half_installed(s, d))]
    bad = [*half, *_twice(inventory), *_tilde(inventory)]
    return bad or [
        Finding(FAMILY, OK, f"{len(inventory.by_key)} distributions are completely installed")
    ]
