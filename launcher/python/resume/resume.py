"""What a process restored from an image renews in Python's own modules.

Run by the engine in the capturing process, in a namespace of its own: `prepare` is called there,
`resume` in every restored process, after `os.register_at_fork`'s functions. Only the standard
library is known here; what another package needs is in `hooks/<module>.py`, which may define
`prepare` and `resume`, too, and is used if that module is loaded in one of the versions of which
its first line says that somebody has read them (docs/lists.md). In any other there is no image,
unless its second line is "# Otherwise: kept": then what it would renew stays as it was. `renews`
in a hook are kernel files that its module reads once, when it is imported, and that `resume` reads
again, so that what stands in them need not be the same. A module that draws random numbers
from the system when it is imported has to have one, or to stand in `known_draws.txt`: else who
imports it is imported late.

Nothing is imported here that is not loaded in every process: it would stand in the program's
sys.modules, where the program may have a file of that name.
"""

import _io
import os
import stat
import sys
import time

_hooks = []
_name_sequences = []
renewed_files = []  # One for each time that a hook's module has read one; the engine asks for it.
_made_by = set()  # Process numbers under which what is in the image came to be.


def prepare(folder, first_process, terminals, buffered):
    """`terminals`: which of the standard descriptors were some; `buffered`: no `-u`.

    Returns whether standard output has something that is not written out.
    """
    _made_by.update((first_process, os.getpid()))
    _prepare_streams(terminals, buffered)
    tempfile = sys.modules.get("tempfile")
    if tempfile is not None:
        # multiprocessing's and loky's semaphores have some of their own.
        _name_sequences.extend(live_objects(tempfile._RandomNameSequence))  # noqa: F821 - the engine's
    weakref = sys.modules.get("weakref")
    if weakref is not None:
        weakref.finalize._select_for_exit = classmethod(lambda cls: marked_for_exit(cls._registry))  # noqa: F821 - the engine's
    folder = os.path.join(folder, "hooks")
    for name in sorted(os.listdir(folder)):
        module = sys.modules.get(name.removesuffix(".py"))
        if not name.endswith(".py") or module is None:
            continue
        path = os.path.join(folder, name)
        with open(path, encoding="utf-8") as file:
            source = file.read()
        first_line = source.partition("\n")[0]
        if not is_hook_for(name.removesuffix(".py"), first_line, module):  # noqa: F821 - the engine's
            if source.split("\n", 2)[1] == "# Otherwise: kept":
                continue
            # Late, or nobody has looked: no image, where what it keeps cannot be renewed.
            raise RuntimeError(f"{name} renews another version of the module than is loaded")
        code = compile(source, path, "exec")
        hook = {
            "__name__": "pylaunch_hook",
            "module": module,
            "renew_multiprocessing": _renew_multiprocessing,
            "reset_library": reset_library,  # noqa: F821 - the engine's
        }
        exec(code, hook)
        if "prepare" in hook:
            hook["prepare"]()
        renewed_files.extend(hook.get("renews", ()))
        _hooks.append(hook)
    return any(fd == 1 for fd, _, _ in _pending)


def resume():
    _renew_streams()
    _renew_threading()
    _renew_logging()
    _renew_randomness()
    _renew_platform()
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        _renew_multiprocessing(process)
    for hook in _hooks:
        if "resume" in hook:
            hook["resume"]()


def _renew_multiprocessing(process):
    """Where multiprocessing was imported, and its key (Lib/multiprocessing/process.py).

    For hooks, too: there are packages that began as a copy of it.
    """
    if hasattr(process, "ORIGINAL_DIR"):
        try:
            process.ORIGINAL_DIR = os.path.abspath(os.getcwd())
        except OSError:
            process.ORIGINAL_DIR = None
    current = process.current_process()
    if "authkey" in current._config:
        current._config["authkey"] = process.AuthenticationString(os.urandom(32))


_NAMES = ("<stdin>", "<stdout>", "<stderr>")
_BUFFERED = (_io.BufferedReader, _io.BufferedWriter)
_raws = []  # New raw files of the standard descriptors;
_buffers = []  # what is to lie over one, with it;
_pending = []  # what a stream has not written out, with the descriptor and the stream;
_texts = []  # text over that, with its arguments, and its raw file if that decides over lines.


def _standard_streams():
    names = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")
    streams = [getattr(sys, name, None) for name in names]
    below = [x.buffer for x in streams if type(x) is _io.TextIOWrapper and _is_whole(x)]
    return streams + below + [x.raw for x in below if type(x) in _BUFFERED]


def _is_whole(text):
    """Has a buffer, which detach() takes away."""
    try:
        return text.buffer is not None
    except (AttributeError, ValueError):
        return False


def _prepare_streams(terminals, buffered):
    """Finds what start-up has made over the three descriptors, and preloading from that.

    sys.stdout may be another object by now, over what has been detached from the first one. What
    preloading has opened anew (`open(1, "w")`) stays as it is.
    """
    found = {id(x): x for x in _standard_streams()}  # gc.freeze() hides objects.
    kinds = (_io.FileIO, *_BUFFERED, _io.TextIOWrapper)
    found.update((id(x), x) for x in live_objects(*kinds))  # noqa: F821 - the engine's
    for stream in sorted(found.values(), key=lambda x: type(x) is _io.TextIOWrapper):
        with _Quietly():
            if stream.fileno() in (1, 2):
                _take_pending(stream)
    new = {}
    for file in found.values():
        if type(file) is _io.FileIO and _is_standard(file):
            # FileIO remembers for good whether its descriptor was seekable. Made here, where no
            # audit hook of the program's hears of it.
            raw = _io.FileIO(file.fileno(), file.mode, closefd=False)
            vars(raw).update(vars(file))
            new[id(file)] = raw
            _raws.append(raw)
    for stream in found.values():
        if type(stream) in _BUFFERED and id(stream.raw) in new:
            _buffers.append((stream, new[id(stream.raw)]))
    below = {id(x): (x, raw) for x, raw in _buffers} | {x: (raw, raw) for x, raw in new.items()}
    for stream in found.values():
        if type(stream) is _io.TextIOWrapper and _is_whole(stream) and id(stream.buffer) in below:
            _prepare_text(stream, *below[id(stream.buffer)], terminals, buffered)


def _take_pending(stream):
    """Of a text, once its buffer is empty."""
    fd = stream.fileno()
    with _Caught(fd) as caught:
        stream.flush()
    if data := caught.bytes:
        _pending.append((fd, stream, data))


def refill():
    """Streams get back what they had not written out; after what was written before."""
    for _, stream, data in _pending:
        if type(stream) is not _io.TextIOWrapper:
            stream.write(data)
        elif (text := _as_written(stream, data)) is None:
            stream.buffer.write(data)
        else:
            stream.write(text)
    _pending.clear()


def _as_written(stream, data):
    """What `stream` encodes to `data`, if that can be told."""
    with _Quietly():
        text = data.decode(stream.encoding, stream.errors)
        if b"\r" not in data and text.encode(stream.encoding, stream.errors) == data:
            return text
    return None


def _is_standard(file):
    return not file.closed and not file.closefd and file.fileno() < 3 and "a" not in file.mode


def _prepare_text(text, below, raw, terminals, buffered):
    fd = raw.fileno()
    # As Python/pylifecycle.c's create_stdio makes them.
    of_start = raw.name == _NAMES[fd] and "mode" in vars(text)
    lines = fd == 2 or bool(terminals[fd])
    decides = buffered and of_start and text.line_buffering == lines
    newline = _newline_read(text) if fd == 0 else _newline_written(text)
    arguments = [text.encoding, text.errors, newline, text.line_buffering, text.write_through]
    _texts.append((text, below, arguments, raw if decides else None))


class _Quietly:
    def __enter__(self):
        pass

    def __exit__(self, kind, *_):
        return kind is not None and issubclass(kind, Exception)


class _Piped:
    """`fd` is one end of a pipe for a while; its other one."""

    def __init__(self, fd, end):
        self.fd, self.end = fd, end

    def __enter__(self):
        ends = os.pipe()
        self.kept = os.dup(self.fd)
        os.dup2(ends[self.end], self.fd)
        os.close(ends[self.end])
        self.other = open(ends[1 - self.end], ("wb", "rb")[self.end], buffering=0)
        return self.other

    def __exit__(self, *_):
        os.dup2(self.kept, self.fd)
        os.close(self.kept)
        self.other.close()


class _Caught:
    """What is written to `fd` for a while is `bytes` then."""

    def __init__(self, fd):
        self.fd, self.bytes = fd, b""

    def __enter__(self):
        self.kept = os.dup(self.fd)
        self.file = os.memfd_create("caught")
        os.dup2(self.file, self.fd)
        return self

    def __exit__(self, *_):
        os.dup2(self.kept, self.fd)
        os.close(self.kept)
        self.bytes = os.pread(self.file, os.fstat(self.file).st_size, 0)
        os.close(self.file)


def _newline_written(text):
    """Nothing tells what a text makes of newlines but to look."""
    with _Quietly(), _Piped(text.fileno(), 1) as end:
        os.set_blocking(end.fileno(), False)
        text.write("\n")
        text.flush()
        written = end.read(100).decode(text.encoding)
        if written in ("\r", "\r\n"):
            return written
    return "\n"


def _newline_read(text):
    lines = {
        ("a\n", "b\n"): None,
        ("a\r", "b\r\n"): "",
        ("a\r", "b\r"): "\r",
        ("a\rb\r\n", "c\nd"): "\r\n",
    }
    with _Quietly(), _Piped(text.fileno(), 0) as end:
        end.write("a\rb\r\nc\nd".encode(text.encoding))
        end.close()
        return lines.get((text.readline(), text.readline()), "\n")
    return "\n"


def _renew_block_size(raw, status):
    if sys.version_info < (3, 14):
        raw._blksize = status.st_blksize
    else:  # Kept with all that the file said of itself when it was opened.
        name = raw.name
        raw.__init__(raw.fileno(), raw.mode, closefd=False)
        raw.name = name


def _buffer_size(raw):
    """As io.open() does."""
    if sys.version_info < (3, 14):
        return raw._blksize if raw._blksize > 1 else _io.DEFAULT_BUFFER_SIZE
    return max(min(raw._blksize, 8 << 20), _io.DEFAULT_BUFFER_SIZE)


def _renew_streams():
    """Over what the descriptors are now, in place: libraries hold the objects."""
    for raw in _raws:
        status = os.fstat(raw.fileno())
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(raw.name)  # Start-up has words for that.
        _renew_block_size(raw, status)
    for stream, raw in _buffers:
        stream.__init__(raw, _buffer_size(raw))
    for text, below, arguments, raw in _texts:
        if raw is not None:
            arguments[3] = raw.fileno() == 2 or raw.isatty()
        text.__init__(below, *arguments)
    for kept in (_raws, _buffers, _texts):
        kept.clear()  # At exit a stream is written out when nobody holds it any more.


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


def _renew_platform():
    """The host name in what platform.uname() keeps: who only asked it for the system wants all."""
    platform = sys.modules.get("platform")
    known = getattr(platform, "_uname_cache", None)
    # Whether that is true is the number of its fields, for the last of which it runs uname(1).
    if known is not None and known.node != (name := os.uname().nodename):
        fields = known.system, name, known.release, known.version, known.machine
        platform._uname_cache = type(known)(*fields)
        vars(platform._uname_cache).update(vars(known))


def _renew_randomness():
    """What `random` does at a fork, for those that do nothing then or go by the process number.

    That can be the same in every restored process: containers count from 1.
    """
    ssl = sys.modules.get("_ssl")
    if ssl is not None and not _notices_fork(ssl):
        ssl.RAND_add(os.urandom(64), 64.0)
    for sequence in _name_sequences:
        sequence._rng_pid = None
    uuid = sys.modules.get("uuid")
    if uuid is not None:
        uuid._last_timestamp = None
