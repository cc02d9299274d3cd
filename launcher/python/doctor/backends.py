"""Stand-ins for classes whose optional dependency is missing (transformers' and diffusers'
DummyObject).
"""

from __future__ import annotations

import os
import re

from . import chain
from .distributions import Inventory, normalized
from .model import Surroundings

REQUIRES = re.compile(r"(\w+) requires the ([\w, ]+) library but it was not found")
# What a library's backend is called, where no distribution has that name.
DISTRIBUTIONS = {"tf": "tensorflow", "vision": "pillow", "pytorch": "torch", "speech": "torchaudio"}
SWITCHES = {
    "tensorflow": "USE_TF",
    "tf": "USE_TF",
    "torch": "USE_TORCH",
    "flax": "USE_FLAX",
    "jax": "USE_FLAX",
}


def of_placeholder(thing: object) -> list[str]:
    """What a stand-in lacks; empty for the real thing. As in engine/base/placeholder.cc."""
    if not isinstance(thing, type) or type(thing).__name__ != "DummyObject":
        return []
    try:
        return [str(name) for name in thing._backends]
    except Exception:  # A metaclass of that name that is none of this kind.
        return []


def explain_missing(
    s: Surroundings, inventory: Inventory, name: str, backends: list[str]
) -> tuple[str, str]:
    installed = {}
    for backend in backends:
        known = normalized(DISTRIBUTIONS.get(backend.lower(), backend))
        found = inventory.by_key.get(known) or next(
            iter(inventory.by_import_name.get(backend, [])), None
        )
        if found:
            installed[backend] = found
    missing = [b for b in backends if b not in installed]
    if missing:
        lacks = ", ".join(missing)
        names = " ".join(DISTRIBUTIONS.get(b.lower(), b) for b in missing)
        cause = f"'{name}' is only a placeholder: it needs {lacks}, which is not installed"
        return cause, s.pip(f"install {names}")
    there = ", ".join(str(d) for d in installed.values())
    cause = f"'{name}' is only a placeholder, though {there} is installed"
    set_to = [
        f"{v}={os.environ[v]}" for b in backends if (v := SWITCHES.get(b.lower())) in os.environ
    ]
    if set_to:
        return (
            f"{cause}: {', '.join(set_to)} may switch it off",
            f"unset {set_to[0].partition('=')[0]}",
        )
    return cause, f"see whether {there} is new enough, and can be imported at all"


def explain(s: Surroundings, inventory: Inventory, error: BaseException) -> tuple[str, str] | None:
    found = REQUIRES.search(chain.text(error))
    if found is None:
        return None
    cause, hint = explain_missing(s, inventory, found.group(1), found.group(2).split(", "))
    return cause, hint
