"""Does every installed distribution have what it requires, in a version that it accepts?"""

from __future__ import annotations

import importlib
import os
import sys

from .distributions import Distribution, Inventory, normalized
from .model import FAILURE, OK, WARNING, Finding, Surroundings

FAMILY = "requirements"


def _packaging(folders: list[str]):
    """`packaging` of the environment, else pip's copy of it, else None."""
    for name in ("packaging", "pip._vendor.packaging"):
        top = name.partition(".")[0]
        home = next((p for p in folders if os.path.isfile(f"{p}/{top}/__init__.py")), None)
        if home is None:
            continue
        sys.path.append(home)
        try:
            return importlib.import_module(f"{name}.requirements")
        except ImportError:
            continue
        finally:
            sys.path.remove(home)
    return None


_cache: dict[tuple[str, ...], object] = {}


def packaging_of(inventory: Inventory):
    key = tuple(inventory.folders)
    if key not in _cache:
        _cache[key] = _packaging(inventory.folders)
    return _cache[key]


def _only_with_extra(text: str) -> bool:
    """A quick look: most requirements count only if someone asked for an extra."""
    marker = text.partition(";")[2]
    return "extra ==" in marker and " or " not in marker


def broken(s: Surroundings, dist: Distribution, inventory: Inventory) -> list[Finding]:
    packaging = packaging_of(inventory)
    if packaging is None:
        return []
    found = []
    for text in dist.requires:
        if _only_with_extra(text):
            continue
        try:
            wanted = packaging.Requirement(text)
            applies = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        except Exception:  # A requirement in the style of the last century is no illness.
            continue
        if not applies:
            continue
        there = inventory.by_key.get(normalized(wanted.name))
        needs = f"{dist} requires {wanted.name}{wanted.specifier}"
        if there is None:
            cause = f"{needs}, which is not installed"
        elif _accepts(wanted.specifier, there.version):
            continue
        else:
            cause = f"{needs}, but {there} is installed"
        hint = s.pip(f"install '{wanted.name}{wanted.specifier}'")
        details = {"distribution": dist.name, "requires": text}
        if there is not None:
            details["installed"] = there.version
        found.append(
            Finding(
                FAMILY,
                FAILURE,
                f"{dist.name} has the {wanted.name} that it requires",
                cause,
                hint,
                details,
            )
        )
    return found


def _accepts(specifier, version: str) -> bool:
    try:
        return specifier.contains(version, prereleases=True)
    except Exception:  # The version is none: half-installed, and told elsewhere.
        return True


def check(s: Surroundings, inventory: Inventory) -> list[Finding]:
    if packaging_of(inventory) is None and inventory.by_key:
        cause = "neither packaging nor pip is installed, so they cannot be read"
        hint = s.pip("install packaging")
        return [Finding(FAMILY, WARNING, "requirements were looked at", cause, hint)]
    found = [f for dist in inventory.by_key.values() for f in broken(s, dist, inventory)]
    count = len(inventory.by_key)
    return found or [Finding(FAMILY, OK, f"the requirements of {count} distributions are met")]
