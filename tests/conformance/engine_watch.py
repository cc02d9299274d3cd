"""Counts, from outside, the processes that our engine is loaded into, or that restore an image.

The dynamic loader, or the restorer in its place, opens the engine once in each process under
pylaunch, execve(2) opens the restorer, and the kernel tells of both (inotify(7)), so nothing in
those processes differs from an ordinary run. Forked children load nothing and are not counted.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import threading
from pathlib import Path

# linux/inotify.h
_IN_OPEN = 0x20
_IN_CLOSE_NOWRITE = 0x10
_EVENT = struct.Struct("iIII")

_libc = ctypes.CDLL(None, use_errno=True)


class EngineWatch:
    """A context; `count` grows inside it, and is final when it ends."""

    def __init__(self, engine: Path):
        self._engine = engine
        self.count = 0

    def __enter__(self) -> EngineWatch:
        self._fd = _libc.inotify_init1(os.O_CLOEXEC)
        # The kernel merges equal events that follow each other. Two processes that open the engine
        # at once are told apart by its folder's events, which come in between.
        self._add(self._engine.parent)
        self._watched = self._add(self._engine)
        self._done, wake = os.pipe()
        self._wake = wake
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        return self

    def _add(self, path: Path) -> int:
        watched = _libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_OPEN | _IN_CLOSE_NOWRITE)
        if watched < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
        return watched

    def _read(self) -> None:
        while True:
            ready, _, _ = select.select([self._fd, self._done], [], [])
            if self._fd not in ready:
                return
            data = os.read(self._fd, 65536)
            while data:
                watched, mask, _, size = _EVENT.unpack_from(data)
                data = data[_EVENT.size + size :]
                self.count += watched == self._watched and bool(mask & _IN_OPEN)

    def __exit__(self, *_) -> None:
        os.close(self._wake)
        self._thread.join()
        os.close(self._done)
        os.close(self._fd)
