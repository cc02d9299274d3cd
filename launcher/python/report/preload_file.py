"""The preload file that --record writes: what the program asked for, in that order."""

from __future__ import annotations

import keyword
import os
import re
import shlex
import sys
import textwrap
from dataclasses import dataclass

from . import distributions, own_imports
from .journal import FAILED, IMPORT, LOADED, Event, Journal

OWN, LIBRARY, THREAD = "own", "library", "thread"
HEADINGS = {
    OWN: "What the program's own files import.",
    LIBRARY: "What libraries import only when they are called.",
    THREAD: "Met on other threads than the main one (named, with the function that asked).",
}
IMAGE = "# use image    # start from an image of the preloaded process: milliseconds; docs/image.md"
WIDTH = 100
COLUMN = 44  # Of comments behind entries.
# Loaders that find the same again in a process that has not run the program yet.
ORDINARY_LOADERS = {
    "",
    "SourceFileLoader",
    "SourcelessFileLoader",
    "ExtensionFileLoader",
    "BuiltinImporter",
    "FrozenImporter",
    "NamespaceLoader",
    "_NamespaceLoader",
    "zipimporter",
}
PLAIN_VALUE = re.compile(r"[\w.,:/+@%-]{0,80}\Z", re.ASCII)
# As IsPrivateName in image/secrets.cc; tests/unit/image/secret_names.txt is for both.
PRIVATE_PART = re.compile("KEY|SECRET|PASS|TOKEN|AUTH|CREDENTIAL|COOKIE|SESSION", re.I)
COUNTED = re.compile("TOKENIZER|TOKENS|TOKENIZE", re.I)


@dataclass
class Entry:
    """One line to be; `position` orders them: an index into the events, or between two."""

    position: float
    kind: str
    module: str
    symbol: str = ""
    comment: str = ""
    asked_by_own: bool = True
    optional: bool = False

    @property
    def key(self):
        return self.module, self.symbol


def text(log: Journal) -> str:
    entries = _subsume(_collect(log))
    lines = [*_header(log, entries), *_start(log)]
    lines += [*_given(log), *_variables(log), *_body(entries)]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------------------------------- what


def _collect(log: Journal) -> list[Entry]:
    entries: dict[tuple[str, str], Entry] = {}
    for event in _asked_for(log):
        entry = _entry(log, event)
        entries.setdefault(entry.key, entry)
    for entry in _read_from_sources(log, entries):
        entries.setdefault(entry.key, entry)
    listed = sorted(entries.values(), key=lambda entry: entry.position)
    for entry in listed:
        entry.optional = not _found_again(log, entry.module) or _is_private(entry)
    return [entry for entry in listed if _is_expressible(entry)]


def _asked_for(log: Journal):
    """The events that the program or what it called asked for; of one that failed, what it left."""
    listed: set[int] = set()
    for event in log.events:
        if not event.request or event.kind != IMPORT:
            continue
        main = log.threads[event.thread].main
        if main and not event.file:  # CPython's own start of the program: runpy.
            continue
        if any(parent in listed and log.events[parent].own for parent in _ancestors(log, event)):
            continue
        if event.outcome == FAILED:
            yield from _left_by(log, event)
        elif event.outcome == LOADED and not (event.own and main) and not _is_implied(log, event):
            listed.add(event.index)
            yield event


def _ancestors(log: Journal, event: Event):
    while event.parent >= 0:
        yield event.parent
        event = log.events[event.parent]


def _is_implied(log: Journal, event: Event) -> bool:
    """True for the package that an import of a module of it loads first."""
    parent = log.events[event.parent] if event.parent >= 0 else None
    return (
        parent is not None and parent.outcome == LOADED and parent.name.startswith(f"{event.name}.")
    )


def _left_by(log: Journal, failed: Event):
    """Modules that stay although the one that imported them failed; asked for by the same."""
    inside = {failed.index}
    for event in log.events[failed.index + 1 :]:
        if event.parent not in inside or event.kind != IMPORT:
            continue
        if event.outcome == FAILED:
            inside.add(event.index)
        elif event.outcome == LOADED and event.name in log.modules and not event.request:
            event.file, event.function = failed.file, failed.function
            event.by_own, event.symbol_found = failed.by_own, False
            yield event


def _entry(log: Journal, event: Event) -> Entry:
    thread = log.threads[event.thread]
    kind = THREAD if not thread.main else OWN if event.by_own else LIBRARY
    asked = f"{event.function} in {_short(log, event.file)}" if event.file else ""
    if kind == THREAD:
        comment = f"{thread.name}: {asked}" if asked else thread.name
    else:
        comment = "" if kind == OWN else asked
    entry = Entry(event.index, kind, event.name, "", comment, event.by_own)
    # A module may stand in for itself until it is used: then it is not the symbol that loads it.
    if event.symbol_found and event.symbol_module not in ("", event.name):
        entry.module, entry.symbol = event.symbol_module, event.symbol
    return entry


def _read_from_sources(log: Journal, entries: dict):
    """What the own files name and something else had loaded before they did, on the main thread."""
    loaded = {}
    own = set()
    for event in log.events:
        if event.outcome == LOADED and event.kind == IMPORT and log.threads[event.thread].main:
            loaded.setdefault(event.name, event)
            if event.own:
                own.add(event.name)
    last = {}  # Where the own files last took a symbol of a lazy module.
    for entry in entries.values():
        if entry.kind == OWN and entry.symbol:
            last[entry.module] = max(entry.position, last.get(entry.module, 0))
    for module, symbol in own_imports.of_program(log):
        event = loaded.get(module)
        if event is None or module in own or event.begin_ns < log.program_ns:
            continue
        if symbol and symbol in log.lazy.get(module, ()):
            yield Entry(last.get(module, event.index) + 0.5, OWN, module, symbol)
        elif symbol and f"{module}.{symbol}" in loaded:
            below = loaded[f"{module}.{symbol}"]
            if below.begin_ns >= log.program_ns:
                yield Entry(below.index, OWN, below.name)
        elif (module, "") not in entries:
            yield Entry(event.index, OWN, module)


def _found_again(log: Journal, module: str) -> bool:
    """False for what is found only because of what the program did to sys.path or sys.meta_path."""
    top = module.partition(".")[0]
    for event in log.events:
        if event.name == top and event.body and event.outcome == LOADED:
            if event.loader not in ORDINARY_LOADERS:
                return False
            outside = event.origin.startswith("/") and not event.own
            return not outside or any(
                event.origin.startswith(f"{folder.rstrip('/')}/") for folder in log.path_before
            )
    return True


def _is_private(entry: Entry) -> bool:
    """True for what no name of the program stands for, and the next release may not have."""
    return not entry.asked_by_own and any(
        part.startswith("_") for part in (*entry.module.split("."), entry.symbol)
    )


def _is_expressible(entry: Entry) -> bool:
    parts = [*entry.module.split("."), *([entry.symbol] if entry.symbol else [])]
    return all(part.isidentifier() and not keyword.iskeyword(part) for part in parts)


def _subsume(entries: list[Entry]) -> list[Entry]:
    """Without `import a` directly before `import a.b` or `from a import c`, which do it too."""
    kept: list[Entry] = []
    for entry in entries:
        before = kept[-1] if kept else None
        if before and not before.symbol and before.kind == entry.kind:
            same = entry.symbol and before.module == entry.module
            if same or entry.module.startswith(f"{before.module}."):
                kept.pop()
        kept.append(entry)
    return kept


# ---------------------------------------------------------------------------------------- how


def _short(log: Journal, file: str) -> str:
    """The file as seen from sys.path: no folder of this machine."""
    folders = sorted((f for f in log.path_after if f), key=len, reverse=True)
    for folder in folders:
        if file.startswith(f"{folder.rstrip('/')}/"):
            return file[len(folder.rstrip("/")) + 1 :]
    return file if file.startswith("<") else os.path.basename(file)


def _comment(text: str) -> list[str]:
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return textwrap.wrap(
        text, WIDTH, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False
    )


def _header(log: Journal, entries: list[Entry]) -> list[str]:
    python = log.python.partition(" ")[0]
    versions = [f"CPython {python}", *distributions.versions(log, [e.module for e in entries])]
    return [
        *_comment(f"Written by pylaunch {log.pylaunch}: what this command imported."),
        *_comment(
            f"  {shlex.join(log.argv[:1] and [os.path.basename(log.argv[0]), *log.argv[1:]])}"
        ),
        *_comment(", ".join(versions)),
    ]


def _start(log: Journal) -> list[str]:
    """How to start with this file: what --preload said, and what can be said."""
    lines = ["", *log.directives]
    if "use image" not in log.directives:
        lines += [IMAGE]
    return lines


def _given(log: Journal) -> list[str]:
    """What --preload had loaded before: it is still needed."""
    if not log.entries and not log.settings:
        return []
    lines = ["", "# What was preloaded in this run."]
    for given in log.settings:
        quote = "" if PLAIN_VALUE.match(given.value) else '"' if "'" in given.value else "'"
        sign = "?=" if given.only_if_unset else "="
        lines.append(f"{given.name}{sign}{quote}{given.value}{quote}")
    for text in log.entries:
        if text != lines[-1]:
            lines.append(text)
    return lines


def is_private_name(name: str) -> bool:
    """True if a whole word of the variable's name says that its value is not to be repeated."""
    return PRIVATE_PART.search(COUNTED.sub("", name)) is not None


def _variables(log: Journal) -> list[str]:
    """What the program set before an import; preload comes before the program does."""
    first: dict[str, str] = {}
    for variable in log.variables:
        if not variable.name.startswith("PYLAUNCH_"):
            first.setdefault(variable.name, variable.value)
    given = {setting.name for setting in log.settings}
    lines, withheld = [], []
    for name, value in first.items():
        if name in given or not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            continue
        if PLAIN_VALUE.match(value) and not is_private_name(name):
            lines.append(f"{name}?={value}")
        else:
            withheld.append(f"# {name}?=")
    if not lines and not withheld:
        return []
    told = _comment(
        "The program sets these itself before it imports; preloading comes before that."
    )
    if withheld:
        told += _comment("Values that may be private or long are left for you to fill in.")
    return ["", *told, *lines, *withheld]


def _body(entries: list[Entry]) -> list[str]:
    lines = []
    kind = None
    for group in _groups(entries):
        if group[0].kind != kind:
            kind = group[0].kind
            lines += ["", *_comment(HEADINGS[kind])]
        lines += _lines(group)
    if not entries:
        lines += ["", "# Nothing that is not there at every start."]
    return lines


def _groups(entries: list[Entry]):
    """Neighbours that one line can name."""
    group: list[Entry] = []
    for entry in entries:
        if group and not _go_together(group[0], entry):
            yield group
            group = []
        group.append(entry)
    if group:
        yield group


def _go_together(a: Entry, b: Entry) -> bool:
    same_line = (a.kind, a.comment, a.optional) == (b.kind, b.comment, b.optional)
    if a.symbol or b.symbol:
        return same_line and bool(a.symbol and b.symbol) and a.module == b.module
    return (
        same_line
        and (_is_standard(a.module) == _is_standard(b.module))
        and (_is_standard(a.module) or a.module.partition(".")[0] == b.module.partition(".")[0])
    )


def _is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


def _lines(group: list[Entry]) -> list[str]:
    first = group[0]
    start = "optional " if first.optional else ""
    start += f"from {first.module} import " if first.symbol else "import "
    names = [entry.symbol or entry.module for entry in group]
    wrapped = textwrap.wrap(
        ", ".join(names), WIDTH - len(start), break_long_words=False, break_on_hyphens=False
    )
    lines = [f"{start}{part.rstrip(',')}" for part in wrapped]
    if first.comment:
        comment = "# " + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in first.comment)
        if len(lines) == 1 and len(lines[0]) <= COLUMN and COLUMN + 2 + len(comment) <= WIDTH:
            return [f"{lines[0]:<{COLUMN}}  {comment}"]
        return [comment, *lines]
    return lines
