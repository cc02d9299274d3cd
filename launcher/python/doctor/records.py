"""Are a distribution's files as they were installed?

Existence and size of every file; the digest of those that have changed since RECORD was written, by
their change time (which nobody can set back), up to a limit for each distribution. So an untouched
environment costs one stat a file.
"""

from __future__ import annotations

import base64
import hashlib
import os

from .distributions import Distribution, Inventory, Row
from .model import FAILURE, OK, WARNING, Finding, Surroundings

FAMILY = "files"
SLACK = 2  # Seconds that an installer may take to set modes after RECORD.
HASH_LIMIT = 64 << 20
SHOWN = 3


def _digest(path: str, algorithm: str) -> str:
    digest = hashlib.new(algorithm)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()


def _altered(dist: Distribution, row: Row, status: os.stat_result) -> bool:
    algorithm, _, expected = row.digest.partition("=")
    if row.size is not None and status.st_size != row.size:
        return True
    if algorithm not in hashlib.algorithms_guaranteed or algorithm.startswith("shake"):
        return False
    try:
        return _digest(dist.file(row), algorithm) != expected.rstrip("=")
    except OSError:
        return True


def compare(dist: Distribution) -> tuple[list[str], list[str]]:
    """Files that are missing, and files that are altered."""
    missing, altered = [], []
    if not dist.keeps_record:
        return missing, altered
    record = f"{dist.info}/RECORD"
    try:
        written = os.stat(record).st_ctime + SLACK
    except OSError:
        return [], []
    budget = HASH_LIMIT
    root = f"{dist.root}/"
    for row in dist.record or []:
        if row.path.endswith((".pyc", "/RECORD", "/INSTALLER", "/REQUESTED", "/direct_url.json")):
            continue
        try:
            status = os.stat(row.path if row.path.startswith("/") else root + row.path)
        except OSError:
            missing.append(row.path)
            continue
        changed = row.digest and status.st_ctime > written
        wrong_size = row.digest and row.size is not None and row.size != status.st_size
        if wrong_size:
            altered.append(row.path)
        elif changed and status.st_size <= budget:
            budget -= status.st_size
            if _altered(dist, row, status):
                altered.append(row.path)
    return missing, altered


def is_extra(path: str) -> bool:
    """Tests, type stubs and documents, which slim container images leave out on purpose."""
    extras = ("/tests/", "/test/", "/doc/", "/docs/", "/examples/", "/licenses/", "/man/")
    suffixes = (".pyi", ".h", ".hpp", ".pxd", ".pyx", ".md", ".rst", ".txt", ".a", ".lib")
    return path.endswith(suffixes) or any(extra in f"/{path}" for extra in extras)


def _some(paths: list[str]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more


def check_one(s: Surroundings, dist: Distribution, contested=frozenset()) -> list[Finding]:
    """`contested`: files that another one has overwritten, about which owners.py speaks."""
    missing, altered = ([x for x in paths if x not in contested] for paths in compare(dist))
    hint = f"{s.pip('install --force-reinstall --no-deps')} {dist.name}=={dist.version}"
    found = []
    if missing:
        status = WARNING if all(map(is_extra, missing)) else FAILURE
        cause = f"missing under {dist.root}: {_some(missing)}"
        found.append(
            Finding(FAMILY, status, f"{dist} has all its files", cause, hint, {"missing": missing})
        )
    if altered:
        # A bundle of certificates, say, that this machine's owner has replaced.
        used = [path for path in altered if not is_extra(path)]
        code = any(path.endswith((".py", ".so")) or ".so." in path for path in used)
        status = FAILURE if code else WARNING
        cause = f"altered under {dist.root} since they were installed: {_some(altered)}"
        found.append(
            Finding(FAMILY, status, f"{dist} is unaltered", cause, hint, {"altered": altered})
        )
    return found


def check(s: Surroundings, inventory: Inventory, contested: dict) -> list[Finding]:
    """`contested`: files by the keys of their distributions."""
    found = []
    for dist in inventory.by_key.values():
        others = {x for keys, paths in contested.items() if dist.key in keys for x in paths}
        found += check_one(s, dist, others)
    count = sum(len(dist.record or []) for dist in inventory.by_key.values())
    return found or [Finding(FAMILY, OK, f"{count} installed files are as their RECORD says")]
