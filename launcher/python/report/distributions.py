"""Names and versions of the installed distributions that modules come from."""

from __future__ import annotations

import importlib.metadata
import re

from .journal import Journal


def versions(log: Journal, modules: list[str]) -> list[str]:
    """ "name version" for each distribution that has one of `modules`, sorted; as far as known."""
    tops = {module.partition(".")[0] for module in modules}
    found = set()
    for distribution in importlib.metadata.distributions(path=log.path_after):
        name = distribution.metadata["Name"]
        if name and tops & _top_level(distribution, name):
            found.add(f"{name} {distribution.version}")
    return sorted(found, key=str.lower)


def _top_level(distribution: importlib.metadata.Distribution, name: str) -> set[str]:
    told = (distribution.read_text("top_level.txt") or "").split()
    if told:
        return set(told)
    # Only where it is quick to know: the first parts of the files that it has installed.
    tops = {re.sub(r"[-.]+", "_", name), re.sub(r"[-.]+", "_", name).lower()}
    for line in (distribution.read_text("RECORD") or "").splitlines():
        first = line.split(",", 1)[0].split("/", 1)
        if len(first) == 2 and first[1].startswith("__init__."):
            tops.add(first[0])
    return tops
