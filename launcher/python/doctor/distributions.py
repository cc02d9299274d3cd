"""Installed distributions, as their .dist-info folders tell."""

from __future__ import annotations

import contextlib
import csv
import importlib.metadata
import os
import re
from dataclasses import dataclass, field
from functools import cached_property


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True)
class Row:
    """One line of RECORD."""

    path: str  # Relative to the folder on sys.path, with '/'.
    digest: str  # "sha256=..." or empty.
    size: int | None


class Distribution:
    def __init__(self, root: str, info: str):
        self.root = root
        self.info = os.path.join(root, info)
        stem, _, self._version = info.removesuffix(".dist-info").partition("-")
        self._name = stem
        self.metadata_text = self.text("METADATA")

    def text(self, name: str) -> str | None:
        with (
            contextlib.suppress(OSError),
            open(f"{self.info}/{name}", encoding="utf-8", errors="replace") as file,
        ):
            return file.read()
        return None

    def _header(self, name: str) -> str:
        found = re.search(rf"^{name}:[ \t]*(\S+)", self.metadata_text or "", re.MULTILINE)
        return found.group(1) if found else ""

    @cached_property
    def name(self) -> str:
        return self._header("Name") or self._name

    @cached_property
    def key(self) -> str:
        return normalized(self.name)

    @cached_property
    def version(self) -> str:
        return self._header("Version") or self._version

    @cached_property
    def installer(self) -> str:
        return (self.text("INSTALLER") or "").strip()

    @property
    def keeps_record(self) -> bool:
        """Its RECORD tells what is there. Debian's and conda's packagers change files later."""
        system = self.root.startswith("/usr/lib/python3/dist-packages")
        return self.installer in ("", "pip", "uv", "poetry", "pdm") and not system

    @cached_property
    def requires(self) -> list[str]:
        if "Requires-Dist" not in (self.metadata_text or ""):
            return []
        return importlib.metadata.Distribution.at(self.info).requires or []

    @cached_property
    def required_keys(self) -> set[str]:
        """Of all distributions that it may require, those of its extras, too."""
        names = (re.match(r"[\w.-]+", text) for text in self.requires)
        return {normalized(name.group()) for name in names if name}

    @cached_property
    def record(self) -> list[Row] | None:
        """None: there is no RECORD."""
        text = self.text("RECORD")
        if text is None:
            return None
        rows = []
        with contextlib.suppress(csv.Error):
            for row in csv.reader(text.splitlines()):
                if row and row[0]:
                    size = int(row[2]) if len(row) > 2 and row[2].isdigit() else None
                    rows.append(Row(row[0], row[1] if len(row) > 1 else "", size))
        return rows

    @cached_property
    def top_level(self) -> set[str]:
        """Names that `import` knows it by."""
        names = set()
        for row in self.record or []:
            first, slash, rest = row.path.partition("/")
            if first.startswith((".", "~", "__")) or first.endswith(
                (".dist-info", ".libs", ".data")
            ):
                continue
            if slash and rest.endswith((".py", ".so")):
                names.add(first)
            elif not slash and first.endswith((".py", ".so")):
                names.add(first.partition(".")[0])
        return {name for name in names if name.isidentifier()}

    def file(self, row: Row) -> str:
        return os.path.normpath(os.path.join(self.root, row.path))

    def libraries(self) -> list[str]:
        """Its shared objects that are there."""
        shared = re.compile(r"\.so(\.[0-9.]+)?$")
        found = [self.file(row) for row in self.record or [] if shared.search(row.path)]
        return [path for path in found if os.path.isfile(path)]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass
class Inventory:
    """Every distribution of `folders`, in the order of sys.path."""

    folders: list[str]
    all: list[Distribution] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)  # "~orch", "~orch-2.0.dist-info"

    def __post_init__(self):
        for folder in self.folders:
            with contextlib.suppress(OSError):
                for name in sorted(os.listdir(folder)):
                    if name.startswith("~"):
                        self.leftovers.append(os.path.join(folder, name))
                    elif name.endswith(".dist-info"):
                        self.all.append(Distribution(folder, name))

    @cached_property
    def by_key(self) -> dict[str, Distribution]:
        found: dict[str, Distribution] = {}
        for dist in self.all:
            found.setdefault(dist.key, dist)
        return found

    @cached_property
    def by_import_name(self) -> dict[str, list[Distribution]]:
        found: dict[str, list[Distribution]] = {}
        for dist in self.by_key.values():
            for name in dist.top_level:
                found.setdefault(name, []).append(dist)
        return found

    def owners(self, module: str) -> list[Distribution]:
        """Of a dotted name; a namespace may have several."""
        owners = self.by_import_name.get(module.partition(".")[0], [])
        if len(owners) < 2:
            return owners
        inside = module.replace(".", "/")
        closer = [
            d
            for d in owners
            if any(r.path.startswith((f"{inside}/", f"{inside}.")) for r in d.record or [])
        ]
        return closer or owners

    @cached_property
    def library_names(self) -> set[str]:
        """Of the shared objects of all distributions: one may be loaded before others need it."""
        return {os.path.basename(path) for dist in self.all for path in dist.libraries()}

    @cached_property
    def library_owners(self) -> dict[str, Distribution]:
        """Who has the shared object of that name."""
        found: dict[str, Distribution] = {}
        for dist in self.by_key.values():
            for path in dist.libraries():
                found.setdefault(os.path.basename(path), dist)
        return found
