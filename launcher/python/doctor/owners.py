"""Do two distributions own one file, each with a content of its own?

pip lets the one that is installed later overwrite the other's (opencv-python and
opencv-python-headless). What is there then is a mixture, and to uninstall either takes files of
both.
"""

from __future__ import annotations

import os

from . import records
from .distributions import Distribution, Inventory, Row
from .model import FAILURE, Finding, Surroundings

SHOWN = 2


def contested(inventory: Inventory) -> dict[tuple[str, str], list[str]]:
    """Files that two distributions have with different contents, by their keys; code first.

    Only of those that share code: documents and tests of the same name do no harm.
    """
    first: dict[tuple[str, str], tuple[Distribution, Row]] = {}
    found: dict[tuple[str, str], list[str]] = {}
    for dist in inventory.by_key.values():
        if not dist.keeps_record:
            continue
        for row in dist.record or []:
            other, theirs = first.setdefault((dist.root, row.path), (dist, row))
            if other is not dist and (
                (row.digest, row.size) != (theirs.digest, theirs.size) or _has_other_size(dist, row)
            ):
                found.setdefault((other.key, dist.key), []).append(row.path)
    return {k: sorted(x, key=_harmless) for k, x in found.items() if not all(map(_harmless, x))}


def _has_other_size(dist: Distribution, row: Row) -> bool:
    try:
        return row.size is not None and os.stat(dist.file(row)).st_size != row.size
    except OSError:
        return False


def _harmless(path: str) -> bool:
    return not path.endswith((".py", ".so")) or records.is_extra(path)


def _there(dists: list[Distribution], paths: list[str]) -> Distribution | None:
    """Whose files lie there now: installed last."""
    altered = {dist.key: set(records.compare(dist)[1]) for dist in dists}
    whole = [dist for dist in dists if not altered[dist.key] & set(paths)]
    return whole[0] if len(whole) == 1 else None


def _kept(
    inventory: Inventory, dists: list[Distribution], last: Distribution | None
) -> Distribution:
    """The one that others require, else the one whose files are there."""
    others = [x for x in inventory.by_key.values() if x not in dists]
    required = [x for x in dists if any(x.key in other.required_keys for other in others)]
    return required[0] if len(required) == 1 else last or dists[-1]


def check(s: Surroundings, inventory: Inventory) -> list[Finding]:
    found = []
    for keys, paths in contested(inventory).items():
        dists = [inventory.by_key[key] for key in keys]
        last = _there(dists, paths)
        kept = _kept(inventory, dists, last)
        (other,) = (dist for dist in dists if dist is not kept)
        more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
        cause = f"both own {', '.join(paths[:SHOWN])}{more}, each with another content"
        if last is not None:
            cause += f"; those of {last} are there"
        again = s.pip("install --force-reinstall --no-deps")
        hint = (
            f"keep one: {s.pip('uninstall -y')} {other.name}, "
            f"then {again} {kept.name}=={kept.version}, of which that takes files, too"
        )
        what = f"{dists[0]} and {dists[1]} have files of their own"
        found.append(Finding(records.FAMILY, FAILURE, what, cause, hint, {"files": paths}))
    return found


def of(s: Surroundings, inventory: Inventory, dist: Distribution) -> list[Finding]:
    """Those that `dist` has a part in."""
    return [f for f in check(s, inventory) if str(dist) in f.what]
