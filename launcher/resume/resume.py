"""What a process restored from an image renews in Python's own modules.

Run by the engine in the capturing process, in a namespace of its own: `prepare` is called there,
`resume` in every restored process, after `os.register_at_fork`'s functions. Only the standard
library is known here; what another package needs is in `hooks/<module>.py`, which may define
`prepare` and `resume`, too, and is used if that module is loaded.
"""

import _io
import contextlib
import gc
import os
import sys
import time

_hooks = []
_name_sequences = []
_made_by = set()  # Process numbers under which what is in the image came to be.


def prepare(folder, first_process):
    _made_by.update((first_process, os.getpid()))
    for stream in (sys.stdout, sys.stderr):
        # To the capturing process's own /dev/null: the program will write it.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    tempfile = sys.modules.get("tempfile")
    if tempfile is not None:
        # multiprocessing's and loky's semaphores have some of their own.
        kind = tempfile._RandomNameSequence
        _name_sequences.extend(x for x in gc.get_objects() if type(x) is kind)
    folder = os.path.join(folder, "hooks")
    for name in sorted(os.listdir(folder)):
        module = sys.modules.get(name.removesuffix(".py"))
        if not name.endswith(".py") or module is None:
            continue
        path = os.path.join(folder, name)
        with open(path, encoding="utf-8") as file:
            code = compile(file.read(), path, "exec")
        hook = {"__name__": "pylaunch_hook", "module": module}
        exec(code, hook)
        if "prepare" in hook:
            hook["prepare"]()
        _hooks.append(hook)


def resume():
    _renew_streams()
    _renew_threading()
    _renew_logging()
    _renew_randomness()
    _renew_folder()
    for hook in _hooks:
        if "resume" in hook:
            hook["resume"]()


def _renew_folder():
    """Where multiprocessing was imported (Lib/multiprocessing/process.py)."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and hasattr(process, "ORIGINAL_DIR"):
        try:
            process.ORIGINAL_DIR = os.path.abspath(os.getcwd())
        except OSError:
            process.ORIGINAL_DIR = None


def _renew_streams():
    """The three streams over what the descriptors are now, in place: libraries hold them.

    As Python/pylifecycle.c's create_stdio makes them.
    """
    streams = (sys.__stdin__, sys.__stdout__, sys.__stderr__)
    # -u; which options there are is part of the image's key.
    unbuffered = any(s is not None and not hasattr(s.buffer, "raw") for s in streams)
    for fd, stream in enumerate(streams):
        if stream is not None:
            _renew_stream(fd, stream, unbuffered)


def _renew_stream(fd, stream, unbuffered):
    name = ("<stdin>", "<stdout>", "<stderr>")[fd]
    writes = fd != 0
    buffered = stream.buffer
    encoding, errors, write_through = stream.encoding, stream.errors, stream.write_through
    # A new one: FileIO remembers for good whether its descriptor was seekable.
    raw = _io.FileIO(fd, "wb" if writes else "rb", closefd=False)
    raw.name = name
    if isinstance(buffered, _io.FileIO):
        buffered = raw
    else:
        size = raw._blksize
        buffered.__init__(raw, size if size > 1 else 8192)
    line_buffering = not unbuffered and (fd == 2 or raw.isatty())
    stream.__init__(buffered, encoding, errors, "\n", line_buffering, write_through)
    stream.mode = "w" if writes else "r"


def _renew_threading():
    threading = sys.modules.get("threading")
    if threading is not None:
        threading.main_thread()._set_native_id()


def _renew_logging():
    """What records count their `relativeCreated` from: seconds, from 3.13 on nanoseconds."""
    logging = sys.modules.get("logging")
    if logging is not None:
        now = time.time_ns()
        logging._startTime = now if isinstance(logging._startTime, int) else now / 1e9


def _notices_fork(ssl):
    """OpenSSL reseeds where the process has another number, when it is asked for the next bytes.

    ossl_prov_drbg_generate in providers/implementations/rands/drbg.c. To add something here would
    make generators that most programs never use, and their end.
    """
    return ssl.OPENSSL_VERSION.startswith("OpenSSL ") and os.getpid() not in _made_by


def _renew_randomness():
    """What `random` does at a fork, for those that do nothing then or go by the process number.

    That can be the same in every restored process: containers count from 1.
    """
    ssl = sys.modules.get("_ssl")
    if ssl is not None and not _notices_fork(ssl):
        ssl.RAND_add(os.urandom(64), 64.0)
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        current = process.current_process()
        if "authkey" in current._config:
            current._config["authkey"] = process.AuthenticationString(os.urandom(32))
    for sequence in _name_sequences:
        sequence._rng_pid = None
    uuid = sys.modules.get("uuid")
    if uuid is not None:
        uuid._last_timestamp = None
