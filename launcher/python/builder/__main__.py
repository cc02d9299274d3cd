"""What `pylaunch --build` runs instead of a program: compiles sources for the archive.

The engine runs this file with `archive` in its namespace (launcher/engine/archive/builder.h);
sys.argv[1:] are modules and paths. Nothing of what is compiled is run, or imported.
"""

from __future__ import annotations

import json
import marshal
import multiprocessing
import os
import shutil
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import MAGIC_NUMBER, cache_from_source
from typing import NamedTuple

# A source that changed less than two seconds before it was read proves nothing (cache/stamp.h).
RACY_SECONDS = 2.1
SUFFIXES = (".py", ".so", ".pyc")


class Source(NamedTuple):
    path: str
    stamp: tuple[int, int, int, int]  # mtime_ns, size, ctime_ns, inode


class Compiled(NamedTuple):
    source: Source
    read_at_ns: int = 0
    frame: bytes = b""
    raw_size: int = 0
    problem: str = ""  # Why there is no code.


def fail(what: str, hint: str) -> None:
    sys.stderr.write(f"pylaunch: error: {what}\n  hint:  {hint}\n")
    raise SystemExit(2)


# --------------------------------------------------------------------------------- what to compile


def is_module(name: str) -> bool:
    return name.endswith(".py") and name[:-3].isidentifier()


def walk(folder: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, list[str]]]:
    """Folders that hold something importable, and the sources in them."""
    try:
        info = os.stat(folder)
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    if (info.st_dev, info.st_ino) in seen:  # A loop of links.
        return
    seen.add((info.st_dev, info.st_ino))
    if any(entry.name.endswith(SUFFIXES) for entry in entries):
        yield folder, [f"{folder}/{entry.name}" for entry in entries if is_module(entry.name)]
    for entry in entries:
        if entry.name.isidentifier() and entry.name != "__pycache__" and entry.is_dir():
            yield from walk(f"{folder}/{entry.name}", seen)


def find(name: str) -> ModuleSpec | None:
    """As importlib.util.find_spec, without importing the packages above."""
    path, spec = None, None
    parts = name.split(".")
    for i in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: i + 1]), path)
        if spec is None:
            return None
        path = spec.submodule_search_locations
        if path is None and i + 1 < len(parts):
            return None
    return spec


def named(name: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, list[str]]]:
    if "/" in name or name.endswith(".py") or name == ".":
        path = os.path.abspath(name)
        if os.path.isdir(path):
            yield from walk(path, seen)
        elif os.path.isfile(path):
            yield os.path.dirname(path), [path]
        else:
            fail(f"--build: no file or folder '{name}'", "name modules, as 'torch.nn', or paths")
        return
    spec = find(name)
    if spec is None:
        fail(f"--build: no module '{name}'", "a path has a '/' in it or ends in '.py'")
    elif spec.submodule_search_locations is not None:
        for folder in spec.submodule_search_locations:
            yield from walk(folder, seen)
    elif spec.origin is not None:
        yield os.path.dirname(spec.origin), [spec.origin] if spec.origin.endswith(".py") else []


def importable(names: list[str]) -> tuple[list[str], list[str]]:
    """Folders and sources: those that `names` mean, or all on sys.path."""
    seen: set[tuple[int, int]] = set()
    roots = [os.path.abspath(p).rstrip("/") or "/" for p in sys.path if os.path.isdir(p)]
    walks = (named(n, seen) for n in names) if names else (walk(r, seen) for r in roots)
    folders, sources = dict.fromkeys(roots), {}
    for pairs in walks:
        for folder, files in pairs:
            folders[folder] = None
            sources.update(dict.fromkeys(files))
    return list(folders), list(sources)


def stamped(paths: Iterable[str]) -> list[Source]:
    found = []
    for path in paths:
        try:
            st = os.stat(path)
        except OSError:
            continue
        found.append(Source(path, (st.st_mtime_ns, st.st_size, st.st_ctime_ns, st.st_ino)))
    return found


def wait_until_provable(sources: list[Source], folders: list[str]) -> None:
    """Right after an installation everything is too young."""
    youngest = max([s.stamp[0] for s in sources], default=0)
    for folder in folders:
        st = os.stat(folder)
        youngest = max(youngest, st.st_mtime_ns, st.st_ctime_ns)
    left = RACY_SECONDS - (time.time_ns() - youngest) * 1e-9
    if 0 < left <= RACY_SECONDS:
        time.sleep(left)


# --------------------------------------------------------------------------------------- compiling


def is_overruled(path: str) -> bool:
    """Python takes the .pyc whatever the source says (PEP 552: by hash, unchecked)."""
    try:
        with open(cache_from_source(path), "rb") as file:
            head = file.read(8)
    except OSError:
        return False
    return head == MAGIC_NUMBER + b"\1\0\0\0"


def compile_one(source: Source) -> Compiled:
    """As importlib's SourceLoader does.

    What shows a warning is left to Python, which shows it at each start without a .pyc.
    """
    if is_overruled(source.path):
        return Compiled(source, problem="its .pyc says that nobody is to look at the source")
    try:
        with open(source.path, "rb") as file:
            read_at_ns = time.time_ns()
            before = os.fstat(file.fileno())
            data = file.read()
        if (before.st_mtime_ns, len(data)) != source.stamp[:2]:
            return Compiled(source, problem="changes meanwhile")
        with warnings.catch_warnings(record=True) as shown:
            code = compile(data, source.path, "exec", dont_inherit=True, optimize=-1)
        if shown:
            return Compiled(source, problem=f"{shown[0].category.__name__}: {shown[0].message}")
        raw = marshal.dumps(code)
        return Compiled(source, read_at_ns, archive["compress"](raw), len(raw))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        return Compiled(source, problem=f"{type(error).__name__}: {error}")


def compile_all(sources: list[Source]) -> Iterator[Compiled]:
    jobs = min(len(os.sched_getaffinity(0)), len(sources) // 16)
    if jobs > 1:
        try:
            pool = multiprocessing.get_context("fork").Pool(jobs)
        except (ImportError, OSError):  # No semaphores here (no /dev/shm).
            pool = None
        if pool is not None:
            with pool:
                yield from pool.imap_unordered(compile_one, sources, chunksize=8)
            return
    yield from map(compile_one, sources)


class Progress:
    """A bar on stderr, where that is a terminal."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.drawn = total, 0, 0.0
        self.on = total > 0 and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def step(self) -> None:
        self.done += 1
        now = time.monotonic()
        if not self.on or (now - self.drawn < 0.1 and self.done < self.total):
            return
        self.drawn = now
        text = f" {self.done}/{self.total} modules"
        width = max(10, min(40, shutil.get_terminal_size().columns - len(text) - 12))
        full = width * self.done // self.total
        sys.stderr.write(f"\rpylaunch: [{'#' * full}{'.' * (width - full)}]{text}")
        sys.stderr.flush()

    def clear(self) -> None:
        if self.on:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


# --------------------------------------------------------------------------------------- all of it


def build(names: list[str]) -> dict:
    folders, paths = importable(names)
    everything = stamped(paths)
    wanted = [s for s in everything if not archive["is_current"](s.path, *s.stamp)]
    wait_until_provable(wanted, folders)
    for folder in folders:
        archive["list_folder"](folder)
    progress, compiled, failed = Progress(len(wanted)), {}, {}
    try:
        for result in compile_all(wanted):
            progress.step()
            if result.problem:
                failed[result.source.path] = result.problem
            else:
                compiled[result.source.path] = result
    finally:
        progress.clear()
    for source in wanted:  # In the order in which they were found, so that packages lie together.
        if result := compiled.get(source.path):
            archive["add"](
                source.path, *source.stamp, result.read_at_ns, result.frame, result.raw_size
            )
    return {
        "built": len(compiled),
        "already_there": len(everything) - len(wanted),
        "folders": len(folders),
        "left_to_python": [{"path": p, "why": w} for p, w in sorted(failed.items())],
    }


def main() -> int:
    started = time.monotonic()
    names = sys.argv[1:]
    report = {"archive": archive["path"]}
    if names or not archive["preloaded"]:
        report |= build(names)
    if not archive["seal"]():
        return 1
    report["seconds"] = round(time.monotonic() - started, 3)
    if archive["json"]:
        print(json.dumps(report, indent=2))
    elif "built" not in report:
        print(f"{archive['path']}: has what was preloaded")
    else:
        left = len(report["left_to_python"])
        print(
            f"{archive['path']}: {report['built']} modules built,"
            f" {report['already_there']} already there, {left} left to Python (--json says why)"
        )
    return 0


archive: dict = globals()["archive"]
raise SystemExit(main())
