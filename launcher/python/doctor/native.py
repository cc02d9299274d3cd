"""Can the dynamic loader and this Python load what distributions bring as shared objects?"""

from __future__ import annotations

import ast
import importlib.machinery
import mmap
import os
import platform
import re
import sys
from functools import cache

from . import symbols, system_packages
from .distributions import Distribution, Inventory
from .elf import Loader, NotElf, Problem, read
from .model import FAILURE, OK, WARNING, Finding, Surroundings

FAMILY = "native code"
LOADABLE = tuple(importlib.machinery.EXTENSION_SUFFIXES)  # The last is a plain ".so".
TAGGED = re.compile(
    r"^(?P<stem>[^.]+)\.(?P<tag>cpython-\d+[a-z]*|cp\d+|pypy\d+-pp\d+)(-[\w-]+)?\.so$"
)
CUDA = re.compile(
    r"^(libcudart|libcublas(Lt)?|libcudnn|libnvrtc|libcusparse|libcufft)\.so\.(\d+)|^lib(torch|c10)_cuda\.so"
)
INTEL_OPENMP = re.compile(r"^lib(iomp5|omp)(-[0-9a-f]+)?\.so")
DRIVER = ("libcuda.so", "libnvidia-ml.so")  # Of the graphics driver: missing where there is none.
SHOWN = 4


def is_loadable(base: str) -> bool:
    """Would this Python take a file of this name for an extension module?"""
    stem, dot, suffix = base.partition(".")
    return stem.isidentifier() and dot + suffix in LOADABLE


@cache
def _loader(python: str, library_path: str, brought: frozenset[str]) -> Loader:
    return Loader(python, {"LD_LIBRARY_PATH": library_path}, brought)


def loader(s: Surroundings, inventory: Inventory) -> Loader:
    library_path = s.environ.get("LD_LIBRARY_PATH", "")
    return _loader(s.python, library_path, frozenset(inventory.library_names))


# ------------------------------------------------------------ build tags


def _assigned(path: str, name: str) -> str | None:
    """The string that a module assigns to `name` at its top, without running it."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return None
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        named = any(isinstance(t, ast.Name) and t.id == name for t in targets)
        if named and isinstance(getattr(node, "value", None), ast.Constant):
            return node.value.value if isinstance(node.value.value, str) else None
    return None


def torch_build(inventory: Inventory) -> tuple[str, str] | None:
    """torch's version, and the CUDA it was built for ("" for a CPU build). None: no torch."""
    torch = inventory.by_key.get("torch")
    if torch is None:
        return None
    path = os.path.join(torch.root, "torch", "version.py")
    return _assigned(path, "__version__") or torch.version, _assigned(path, "cuda") or ""


def cuda_tag(dist: Distribution) -> str:
    """The CUDA that `dist` says it was built for ("13.0"), by the build tag of its version."""
    versions = [dist.version]
    for package in sorted(dist.top_level):
        for module in ("version.py", "_version.py"):
            versions.append(
                _assigned(os.path.join(dist.root, package, module), "__version__") or ""
            )
    tags = [m for version in versions if (m := re.search(r"\+cu(\d+)(\d)\b", version))]
    return f"{tags[0].group(1)}.{tags[0].group(2)}" if tags else ""


def cuda_mismatch(
    dist: Distribution, problems: list[Problem], inventory: Inventory
) -> tuple[str, str] | None:
    """Cause and hint where `dist` is a CUDA build beside a CPU torch, or one for another CUDA."""
    torch = torch_build(inventory)
    missing = [m for p in problems if not p.version and (m := CUDA.match(p.library))]
    if torch is None or not missing or dist.key == "torch":
        return None
    version, cuda = torch
    built = cuda_tag(dist) or next((m.group(3) for m in missing if m.group(1) == "libcudart"), "")
    if cuda and (not built or cuda.split(".")[0] == built.split(".")[0]):
        return None
    torch_is = f"is a build for CUDA {cuda}" if cuda else "is a CPU build"
    needs = _needs(problems, dist)
    built_for = f"CUDA {built}".rstrip()
    cause = f"{dist} was built for {built_for} ({needs}); torch {version} {torch_is}"
    return cause, f"install a {dist.name} that matches torch {version}"


# ------------------------------------------------------------ missing libraries


def problems_of(s: Surroundings, dist: Distribution, inventory: Inventory) -> list[Problem]:
    found: list[Problem] = []
    look = loader(s, inventory)
    for path in dist.libraries():
        try:
            elf = read(path)
            if look.native and (elf.bits, elf.machine) != (look.native.bits, look.native.machine):
                continue
            for problem in look.problems(path):
                if problem not in found:
                    found.append(problem)
        except (OSError, NotElf):
            continue
    return found


def _needs(problems: list[Problem], dist: Distribution) -> str:
    """'image.so and _C.so need libcudart.so.13, not found'."""
    askers: dict[str, list[str]] = {}
    for p in problems:
        name = os.path.relpath(p.needed_by, dist.root)
        asked = f"{p.library} with {p.version}" if p.version else p.library
        askers.setdefault(asked, []).append(p.needed_by if name.startswith("..") else name)
    asked_by: dict[tuple[str, ...], list[str]] = {}
    for library, files in askers.items():
        asked_by.setdefault(tuple(sorted(files)), []).append(library)
    parts = []
    for files, libraries in list(asked_by.items())[:SHOWN]:
        verb = "needs" if len(files) == 1 else "need"
        parts.append(f"{_and(list(files), 2)} {verb} {_and(libraries, SHOWN)}, not found")
    return "; ".join(parts) + ("; ..." if len(asked_by) > SHOWN else "")


def _and(words: list[str], limit: int) -> str:
    more = [f"{len(words) - limit} more"] if len(words) > limit else []
    return " and ".join([*words[:limit], *more])


def get_library(names: list[str]) -> str:
    command = system_packages.install(names)
    debian = f" (Debian: {command})" if command else ""
    return f"install what has {' and '.join(names)}{debian}, or add its folder to LD_LIBRARY_PATH"


def system_glibc() -> str:
    return " ".join(part for part in platform.libc_ver() if part)


def _advice(problems: list[Problem], dist: Distribution) -> str:
    if any(p.version.startswith("GLIBC_") for p in problems):
        return f"install a {dist.name} for this system ({system_glibc()}), or use a newer system"
    for p in problems:
        if newer := system_packages.newer_libstdcxx(p.version):
            way = "put its folder into LD_LIBRARY_PATH"
            return f"{newer} (a newer system's, or conda's: {way}), or an older {dist.name}"
    missing = list(dict.fromkeys(p.library for p in problems if not p.version))
    if missing:
        return f"{get_library(missing)}, or reinstall {dist.name}"
    return f"install a build of {dist.name} for this system"


def _import_of(tree: ast.AST, stem: str) -> tuple[bool, bool]:
    """Is a module called `stem` imported at all, and where a failure would not be caught?"""
    seen = bare = False

    def visit(node: ast.AST, guarded: bool) -> None:
        nonlocal seen, bare
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names.append(node.module or "")
            if any(stem in name.split(".") for name in names):
                seen, bare = True, bare or not guarded
        inside = guarded or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if isinstance(node, ast.Try):
            for part in node.body:
                visit(part, inside or bool(node.handlers))
            for part in (*node.handlers, *node.orelse, *node.finalbody):
                visit(part, inside)
            return
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(tree, False)
    return seen, bare


def is_optional(dist: Distribution, path: str) -> bool:
    """A plugin, or a module whose import the distribution's own code guards: it does without."""
    base = os.path.basename(path)
    stem = base.partition(".")[0]
    if not is_loadable(base) or base.startswith("lib"):
        return True
    seen = False
    for row in dist.record or []:
        if not row.path.endswith(".py"):
            continue
        try:
            with open(dist.file(row), encoding="utf-8", errors="replace") as file:
                text = file.read()
            if stem not in text:
                continue
            imported, bare = _import_of(ast.parse(text), stem)
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue
        if bare:
            return False
        seen = seen or imported
    return seen or base == f"{stem}.so"


def libraries_of(s: Surroundings, dist: Distribution, inventory: Inventory) -> list[Finding]:
    problems = problems_of(s, dist, inventory)
    if not problems:
        return []
    details = {
        "problems": [
            {"library": p.library, "version": p.version, "needed_by": p.needed_by} for p in problems
        ]
    }
    what = f"{dist} finds the shared libraries it needs"
    mismatch = cuda_mismatch(dist, problems, inventory)
    if mismatch:
        return [Finding(FAMILY, FAILURE, what, *mismatch, details)]
    driver = [p for p in problems if p.library.startswith(DRIVER)]
    hard = [p for p in problems if p not in driver and not is_optional(dist, p.needed_by)]
    if hard:
        return [Finding(FAMILY, FAILURE, what, _needs(hard, dist), _advice(hard, dist), details)]
    cause = f"{_needs(problems, dist)}; {dist.name} seems to do without"
    return [Finding(FAMILY, WARNING, what, cause, _advice(problems, dist), details)]


# ------------------------------------------------------------ built against other versions


def _lent(dist: Distribution, path: str, inventory: Inventory) -> list[Distribution]:
    """Other distributions that have libraries which `path` needs."""
    found: dict[str, Distribution] = {}
    for library in read(path).needed:
        other = inventory.library_owners.get(library)
        if other is not None and other is not dist:
            found.setdefault(other.key, other)
    return list(found.values())


def built_for(dist: Distribution, other: Distribution) -> str:
    """What a build tag says of `other`: "2.4" in flash_attn's 2.6.3+cu123torch2.4cxx11abiFALSE."""
    tags = re.findall(r"^Build: *(.+)$", dist.text("WHEEL") or "", re.MULTILINE)
    said = re.compile(rf"{re.escape(other.key)}[-_.]?(\d+\.\d+)")
    found = [m for tag in (dist.version.partition("+")[2], *tags) if (m := said.search(tag))]
    return found[0].group(1) if found else ""


def other_build_of(s: Surroundings, dist: Distribution, inventory: Inventory) -> list[Finding]:
    """A shared object with symbols that none of the libraries defines which another one lends it,
    or that was built for another version of it, by its own words.
    """
    for other in filter(None, map(inventory.by_key.get, sorted(dist.required_keys))):
        tag = built_for(dist, other)
        if tag and not f"{other.version}.".startswith(f"{tag}."):
            return [_other_build(dist, other, f"its build tag says {other.name} {tag}")]
    for path in dist.libraries():
        try:
            lenders = _lent(dist, path, inventory)
        except (OSError, NotElf):
            continue
        left = _undefined(s, path, lenders, inventory) if lenders else None
        if left:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            needs = f"{os.path.relpath(path, dist.root)} needs {min(left)}{more}"
            return [_other_build(dist, lenders[0], f"{needs}, which nothing there defines")]
    return []


def _undefined(s, path: str, lenders: list[Distribution], inventory: Inventory) -> set[str] | None:
    """Symbols of `path` that nothing defines: not what is loaded for it, nor Python, nor any
    library of `lenders`, since one of those may have been loaded for all to see.
    """
    look = loader(s, inventory)
    files = look.closure(path) | look.closure(os.path.realpath(s.python))
    for lender in lenders:
        for library in lender.libraries():
            files |= look.closure(library)
    return symbols.not_defined(symbols.wanted(path), sorted(files - {path}))


def _other_build(dist: Distribution, other: Distribution, how: str) -> Finding:
    what = f"{dist} was built for the {other.name} that is installed"
    cause = f"{dist} was built for another {other.name} than {other.version}: {how}"
    hint = f"install a {dist.name} that was built for {other.name} {other.version}"
    return Finding(FAMILY, FAILURE, what, cause, hint, {"other": other.name})


def numpy_1_of(s: Surroundings, dist: Distribution, inventory: Inventory) -> list[Finding]:
    """Extension modules built with NumPy 1's headers, which NumPy 2 refuses.

    numpy/core/include/numpy/__multiarray_api.h: `import_array` imports
    numpy.core._multiarray_umath; NumPy 2's tries numpy._core._multiarray_umath first.
    """
    numpy = inventory.by_key.get("numpy")
    old = numpy is None or numpy.version.startswith(("0.", "1."))
    if old or dist.key == "numpy" or "numpy" not in dist.required_keys:
        return []
    built = [p for p in dist.libraries() if is_loadable(os.path.basename(p)) and _uses_numpy_1(p)]
    if not built:
        return []
    hard = [path for path in built if not is_optional(dist, path)]
    shown = [os.path.relpath(path, dist.root) for path in hard or built]
    what = f"{dist} was built for NumPy {numpy.version.partition('.')[0]}"
    cause = f"{_and(shown, 2)} built with NumPy 1's headers, and {numpy} is installed"
    hint = f"{s.pip('install --upgrade')} {dist.name}, or {s.pip('install')} 'numpy<2'"
    status = FAILURE if hard else WARNING
    verb = "were" if len(shown) > 1 else "was"
    cause = cause.replace(" built with", f" {verb} built with", 1)
    return [Finding(FAMILY, status, what, cause, hint, {"modules": shown})]


def _uses_numpy_1(path: str) -> bool:
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            old = data.find(b"numpy.core._multiarray_umath\0") >= 0
            return old and data.find(b"numpy._core._multiarray_umath\0") < 0
    except (OSError, ValueError):
        return False


# ------------------------------------------------------------ two OpenMP runtimes


def openmp_of_two(inventory: Inventory) -> list[Finding]:
    """LLVM's and Intel's OpenMP are one program, which ends a process that has two of it."""
    owners: dict[str, str] = {}
    for dist in inventory.by_key.values():
        for path in dist.libraries():
            if INTEL_OPENMP.match(os.path.basename(path)):
                owners.setdefault(dist.key, path)
    if len(owners) < 2:
        return []
    cause = " and ".join(
        f"{inventory.by_key[k]} ({path})" for k, path in sorted(owners.items())[:3]
    )
    what = "no two distributions bring an OpenMP runtime of LLVM or Intel each"
    cause = f"{cause} do; a process that loads both ends with 'OMP: Error #15'"
    hint = "use one of them in a process, or install builds that share one runtime"
    return [Finding(FAMILY, WARNING, what, cause, hint, {"files": sorted(owners.values())})]


# ------------------------------------------------------------ other Pythons


def foreign_of(s: Surroundings, dist: Distribution) -> list[Finding]:
    """Extension modules that are there for other versions of Python only."""
    foreign = []
    stems: dict[str, set[str]] = {}
    rows = [row for row in dist.record or [] if row.path.endswith((".so", ".py"))]
    for row in rows:
        folder, _, base = row.path.rpartition("/")
        stems.setdefault(f"{folder}/{base.partition('.')[0]}", set()).add(base)
    for stem, files in stems.items():
        tagged = [m for base in files if (m := TAGGED.match(base)) and not is_loadable(base)]
        usable = any(
            base == f"{stem.rpartition('/')[2]}{suffix}"
            for base in files
            for suffix in (*LOADABLE, ".py")
        )
        if tagged and not usable:
            foreign.append((stem.lstrip("/"), tagged[0]))
    if not foreign:
        return []
    runs = f"{sys.implementation.name}-{sys.version_info[0]}{sys.version_info[1]}"
    stem, match = foreign[0]
    more = f" (and {len(foreign) - 1} more)" if len(foreign) > 1 else ""
    built = match.group("tag") + (match.group(3) or "")
    cause = f"{stem}{more} is there as {match.group(0)} only: built for {built}, and this is {runs}"
    hint = f"{s.pip('install --force-reinstall --no-deps')} {dist.name}=={dist.version}"
    what = f"{dist} is built for this Python"
    return [Finding(FAMILY, FAILURE, what, cause, hint, {"modules": [f[0] for f in foreign]})]


def machine_of(s: Surroundings, dist: Distribution, inventory: Inventory) -> list[Finding]:
    """Extension modules of another processor, or that are no shared objects at all."""
    native = loader(s, inventory).native
    for path in dist.libraries():
        if native is None or not os.path.basename(path).endswith(LOADABLE[:1]):
            continue
        what = f"{dist} is built for this machine"
        hint = f"{s.pip('install --force-reinstall --no-deps')} {dist.name}=={dist.version}"
        try:
            elf = read(path)
        except OSError:
            continue
        except NotElf as error:
            return [Finding(FAMILY, FAILURE, what, f"{path} is no shared object: {error}", hint)]
        if (elf.bits, elf.machine) != (native.bits, native.machine):
            cause = f"{path} is {elf.kind}; {s.python} is {native.kind}"
            return [Finding(FAMILY, FAILURE, what, cause, hint)]
    return []


def check_one(s: Surroundings, dist: Distribution, inventory: Inventory) -> list[Finding]:
    return [
        *foreign_of(s, dist),
        *machine_of(s, dist, inventory),
        *(libraries_of(s, dist, inventory) or other_build_of(s, dist, inventory)),
        *numpy_1_of(s, dist, inventory),
    ]


def check(s: Surroundings, inventory: Inventory) -> list[Finding]:
    found = [f for dist in inventory.by_key.values() for f in check_one(s, dist, inventory)]
    found += openmp_of_two(inventory)
    count = sum(len(dist.libraries()) for dist in inventory.by_key.values())
    if any(f.status == FAILURE for f in found):
        return found
    return [*found, Finding(FAMILY, OK, f"{count} shared objects find what they need")]
