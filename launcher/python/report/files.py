"""Writes the files; each appears whole, by rename, or not at all."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile

from . import journal, preload_file


def write(data: bytes) -> int:
    """The exit code: 0, or 1 if something was not written, which has been told."""
    try:
        log = journal.read(data)
    except ValueError as error:
        return _complain("nothing was recorded or reported", error)
    failed = 0
    if log.record and log.program_ns:
        failed |= _write(log.record, lambda: preload_file.text(log))
    if log.report:
        failed |= _write(log.report, lambda: _report(log))
    return failed


def _report(log: journal.Journal) -> str:
    if log.report.endswith(".speedscope.json"):
        kind = "speedscope"
    else:
        kind = "tables" if log.report.endswith(".json") else "page"
    return importlib.import_module(f"{__package__}.{kind}").text(log)


def _write(path: str, text) -> int:
    temporary = None
    try:
        content = text().encode("utf-8", "backslashreplace")
        handle, temporary = tempfile.mkstemp(
            prefix=f".{os.path.basename(path)}.", dir=os.path.dirname(path)
        )
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), _mode(path))
        os.rename(temporary, path)
    except Exception as error:  # A traceback of ours helps nobody at the end of a program.
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        return _complain(f"{path} was not written", error)
    return 0


def _mode(path: str) -> int:
    """That of the file that is replaced, or what the umask gives."""
    try:
        return os.stat(path).st_mode & 0o7777
    except OSError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask


def _complain(what: str, error: Exception) -> int:
    why = error.strerror if isinstance(error, OSError) and error.strerror else error
    kind = "" if isinstance(error, (OSError, ValueError)) else f"{type(error).__name__}: "
    sys.stderr.write(f"pylaunch: warning: {what}: {kind}{why}\n")
    return 1
