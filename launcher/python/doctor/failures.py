"""Why did this import fail? The checks, asked only about what the exception involves."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping

from . import (
    backends,
    chain,
    compilers,
    cycles,
    environments,
    interpreter,
    leftovers,
    native,
    owners,
    records,
    requirements,
    shadowing,
    system_packages,
)
from .distributions import Distribution, Inventory
from .elf import NotElf
from .model import FAILURE, Finding, Surroundings

Explanation = tuple[str, str]
SHARED = re.compile(
    r"(?P<library>[\w.+-]+\.so[\w.]*): cannot open shared object file"
    r"|(?P<file>/\S+\.so[\w.]*): (?:undefined symbol: (?P<symbol>\w+)"
    r"|wrong ELF class|invalid ELF header|file too short)"
    r"|version `(?P<version>[\w.]+)' not found \(required by (?P<asker>[^)]+)\)"
)


class Case:
    def __init__(self, s: Surroundings, module: str, error: BaseException, modules: Mapping):
        self.s, self.module, self.error, self.modules = s, module, error, modules
        self.inventory = Inventory(s.folders)
        self.frames = chain.all_frames(error)
        self.chain = chain.exceptions(error)
        self.missing = next(
            (e.name for e in reversed(self.chain) if isinstance(e, ModuleNotFoundError) and e.name),
            "",
        )

    def involved(self) -> list[Distribution]:
        """The missing module's, the entry's, then those of the traceback, innermost first."""
        names = [
            self.missing,
            *(e.name for e in self.chain if isinstance(e, ImportError) and e.name),
            self.module,
        ]
        names += [f.module for f in reversed(self.frames)]
        found: dict[str, Distribution] = {}
        for name in names:
            for dist in self.inventory.owners(name or ""):
                found.setdefault(dist.key, dist)
        return list(found.values())

    # One method a kind of illness, the surest first.

    def incomplete(self) -> Explanation | None:
        """An extension of the standard library that this interpreter was built without."""
        return interpreter.explain(self.s, self.missing)

    def shadowed(self) -> Explanation | None:
        files = {f.file for f in self.frames}
        for finding in shadowing.find(self.s, self.inventory):
            name = finding.details["module"]
            module = self.modules.get(name)
            origin = getattr(module, "__file__", None) or ""
            front = [
                os.path.join(p, name) for p in (*self.s.front, *map(os.path.realpath, self.s.front))
            ]
            used = any(f.startswith((f"{p}.", f"{p}/")) for f in (origin, *files) for p in front)
            if used:
                return finding.cause, finding.hint
        return None

    def attribute(self) -> Explanation | None:
        """`import MODULE.NAME`, where MODULE has that name and is no package of that module."""
        parent, _, leaf = self.missing.rpartition(".")
        asked = f"{self.module}.".startswith(f"{self.missing}.")
        try:
            there = asked and leaf in dir(self.modules[parent])
        except Exception:  # Not loaded, or its `__dir__` fails.
            there = False
        if not there:
            return None
        return f"'{leaf}' is a name in '{parent}', not a module", f"write {parent}:{leaf}"

    def namespace(self) -> Explanation | None:
        """A folder without __init__.py that stands for a package which is not installed."""
        top = (self.missing or self.module).partition(".")[0]
        module = self.modules.get(top)
        if (
            module is None
            or getattr(module, "__file__", None)
            or top in self.inventory.by_import_name
        ):
            return None
        for folder in self.s.front:
            path = os.path.join(folder, top)
            if os.path.isdir(path) and path in [
                os.path.abspath(p) for p in getattr(module, "__path__", [])
            ]:
                cause = f"{path} is taken for the package '{top}', which is not installed"
                return cause, f"{self.s.pip(f'install {top}')}, or rename the folder"
        return None

    def cycle(self) -> Explanation | None:
        return cycles.explain(self.error)

    def compiler(self) -> Explanation | None:
        return compilers.explain(self.error)

    def backend(self) -> Explanation | None:
        return backends.explain(self.s, self.inventory, self.error)

    def distributions(self) -> Explanation | None:
        for dist in self.involved():
            for finding in self.of(dist):
                if finding.status == FAILURE:
                    return finding.cause, finding.hint
        return None

    def of(self, dist: Distribution) -> Iterator[Finding]:
        half = leftovers.half_installed(self.s, dist)
        if half:
            yield half
        conflicts = owners.of(self.s, self.inventory, dist)
        yield from conflicts
        contested = {path for f in conflicts for path in f.details["files"]}
        yield from records.check_one(self.s, dist, contested)
        yield from native.check_one(self.s, dist, self.inventory)
        yield from requirements.broken(self.s, dist, self.inventory)

    def other_python(self) -> Explanation | None:
        """`missing` is there, as an extension module for another version."""
        if not self.missing:
            return None
        parent, _, leaf = self.missing.rpartition(".")
        package = self.modules.get(parent)
        for folder in list(getattr(package, "__path__", [])) if parent else self.s.path:
            try:
                entries = sorted(os.listdir(folder))
            except OSError:
                continue
            for entry in entries:
                match = native.TAGGED.match(entry)
                if match and match.group("stem") == leaf and not native.is_loadable(entry):
                    runs = f"{sys.implementation.name}-{sys.version_info[0]}{sys.version_info[1]}"
                    file = os.path.join(folder, entry)
                    cause = f"{file} is built for {match.group('tag')}, and this is {runs}"
                    return cause, f"build or install '{self.missing}' for this Python"
        return None

    def shared_library(self) -> Explanation | None:
        """What the loader says, and an ELF walk from the file that was being loaded."""
        found = SHARED.search(chain.text(self.error))
        if not found:
            return None
        look = native.loader(self.s, self.inventory)
        for path in self.loaded_files():
            try:
                problems = look.problems(path)
            except (OSError, NotElf) as error:
                return f"{path} is no shared object: {error}", "build or install it again"
            for p in problems:
                if p.version and p.version.startswith("GLIBC_"):
                    has = native.system_glibc()
                    cause = f"{p.needed_by} needs {p.version}, newer than this system's {has}"
                    return cause, "install a build for this system, or use a newer system"
                if p.version:
                    cause = f"{p.needed_by} needs {p.version}, which {p.found} lacks"
                    newer = system_packages.newer_libstdcxx(p.version)
                    return cause, newer or f"use a newer {p.library}"
                if p.library == found.group("library"):
                    cause = f"{p.needed_by} needs {p.library}, which is not found"
                    return cause, native.get_library([p.library])
        if found.group("symbol"):
            cause = (
                f"{found.group('file')} was built against other versions of its libraries "
                f"(it needs {found.group('symbol')})"
            )
            return cause, "install versions that were built for each other"
        return None

    def loaded_files(self) -> list[str]:
        text = chain.text(self.error)
        paths = [e.path for e in self.chain if isinstance(e, ImportError) and e.path]
        paths += re.findall(r"(/[^\s:()]+\.so[\w.]*)", text)
        return [p for p in dict.fromkeys(paths) if os.path.isfile(p) and ".so" in p]

    def other_environment(self) -> Explanation | None:
        """`missing` is not here but in the environment that was meant."""
        top = self.missing.partition(".")[0]
        if not top or top in self.inventory.by_import_name:
            return None
        meant = [environments.project_environment(self.s), self.s.environ.get("VIRTUAL_ENV", "")]
        for prefix in filter(None, meant):
            if os.path.realpath(prefix) == os.path.realpath(self.s.prefix):
                continue
            for lib in sorted(_entries(os.path.join(prefix, "lib"))):
                site = os.path.join(prefix, "lib", lib, "site-packages")
                if any(os.path.exists(os.path.join(site, top + end)) for end in ("", ".py")):
                    here = self.s.python
                    cause = f"{here} runs, which has no '{top}'; the environment {prefix} has it"
                    return cause, f". {prefix}/bin/activate, or pylaunch --python {prefix}"
        return None


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def explain_case(case: Case) -> Explanation | None:
    kinds = (
        case.incomplete,
        case.attribute,
        case.shadowed,
        case.cycle,
        case.namespace,
        case.compiler,
        case.backend,
        case.other_python,
        case.distributions,
        case.shared_library,
        case.other_environment,
    )
    for kind in kinds:
        explanation = kind()
        if explanation:
            return explanation
    return None


def _python() -> str:
    """sys.executable may be pylaunch; hints name the Python beside it, as --doctor does."""
    folder, name = os.path.split(sys.executable or "")
    python = os.path.join(folder, "python")
    return python if name == "pylaunch" and os.path.exists(python) else sys.executable


def explain(
    module: str, error: BaseException, path: list[str], modules: Mapping
) -> Explanation | None:
    main = modules.get("__main__")
    surroundings = Surroundings(
        program_path=list(path),
        python=_python(),
        environ=dict(os.environ),
        cwd=os.getcwd(),
        script=getattr(main, "__file__", None) or "",
    )
    return explain_case(Case(surroundings, module, error, modules))
