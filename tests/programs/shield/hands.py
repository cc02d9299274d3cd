# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""What the two-thread programs share: modules on disk, and meeting points that need no sleeping.

A module body holds everybody up at a known point by waiting until the other thread either got somewhere (`reach`) or is
parked in an import: its stack stands still, inside importlib's lock (stock) or at an import statement (pylaunch).
"""

import ctypes
import faulthandler
import importlib.util
import os
import select
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time

LIMIT = int(os.environ.get("HANDS_LIMIT", "40"))
faulthandler.dump_traceback_later(LIMIT, exit=True)
sys.modules["hands"] = sys.modules[__name__]

# A file of its own folder: the parent's is removed by whoever runs us.
ROOT = tempfile.mkdtemp(prefix="shield-")
sys.path.insert(0, ROOT)
sys.dont_write_bytecode = True

_reached = set()
_changed = threading.Condition()
_threads = {}
results = {}


def write(**files):
    """write(a="body", p__init="body of p/__init__.py", p__sub="body of p/sub.py")"""
    for name, text in files.items():
        path = os.path.join(
            ROOT, name.replace("__init", "/__init__").replace("__sub", "/sub") + ".py"
        )
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write("import hands\n" + textwrap.dedent(text))


def reach(point):
    with _changed:
        _reached.add(point)
        _changed.notify_all()


def has_reached(point):
    return point in _reached


def wait_for(point):
    """Waits without polling: to another thread, a blocked one."""
    with _changed:
        _changed.wait_for(lambda: point in _reached)


def _position(ident):
    frame = sys._current_frames().get(ident)
    if frame is None:
        return None
    code = frame.f_code
    return code.co_filename, code.co_name, frame.f_lasti, id(frame)


def is_parked(ident, looks=25):
    """True if the thread does not move at `looks` looks 2 ms apart."""
    first = _position(ident)
    for _ in range(looks):
        time.sleep(0.002)
        if _position(ident) != first:
            return False
    return True


def until(*points, parked=None):
    """Waits until one of `points` is reached or the thread named `parked` is parked in an import. Then, if HANDS_BLOCK says how,
    blocks for longer than pylaunch waits for a blocked thread whatever it does."""
    how = "reached"
    while not any(point in _reached for point in points):
        if parked in _threads and has_reached("ready " + parked) and is_parked(_threads[parked]):
            how = "parked"
            break
        time.sleep(0.001)
    block(os.environ.get("HANDS_BLOCK"))
    return how


def lazy(name):
    """The module as importlib.util.LazyLoader makes it."""
    spec = importlib.util.find_spec(name)
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# ------------------------------------------------------------------------------------------ bodies that block

BLOCKED = float(os.environ.get("HANDS_BLOCKED", "0.7"))
_fifos = iter(range(1000))


def _late_writer(to):
    """A child that lets go of the file or descriptor `to` after the time is over."""
    return subprocess.Popen(["sh", "-c", f"sleep {BLOCKED}; echo x > {to}"])


def _fifo():
    path = f"{ROOT}/fifo{next(_fifos)}"
    os.mkfifo(path)
    return path


def _sleep():
    time.sleep(BLOCKED)


def _child():
    subprocess.run(["sleep", str(BLOCKED)], check=True)


def _pipe():
    with subprocess.Popen(["sleep", str(BLOCKED)], stdout=subprocess.PIPE) as child:
        child.stdout.read()


def _poll():
    with subprocess.Popen(["sleep", str(BLOCKED)], stdout=subprocess.PIPE) as child:
        select.select([child.stdout], [], [], 30)


def _open():
    """As a file on a network whose server is away: the call is about a file."""
    path = _fifo()
    child = _late_writer(path)
    open(path).close()
    child.wait()


def _uninterruptible():
    """State D: a vfork whose child waits before it executes."""
    path = _fifo()
    child = _late_writer(path)
    libc = ctypes.CDLL(None, use_errno=True)
    actions = ctypes.create_string_buffer(1024)  # posix_spawn_file_actions_t
    pid = ctypes.c_int()
    argv = (ctypes.c_char_p * 2)(b"true", None)
    libc.posix_spawn_file_actions_init(actions)
    libc.posix_spawn_file_actions_addopen(actions, 0, path.encode(), os.O_RDONLY, 0)
    assert libc.posix_spawnp(ctypes.byref(pid), b"true", actions, None, argv, None) == 0
    os.waitpid(pid.value, 0)
    child.wait()


def _tcp():
    """A server in another process."""
    listener = socket.create_server(("127.0.0.1", 0))
    child = os.fork()
    if child == 0:
        other = listener.accept()[0]
        time.sleep(BLOCKED)
        other.send(b"x")
        os._exit(0)
    with socket.create_connection(listener.getsockname()) as ours:
        listener.close()
        ours.settimeout(30)
        ours.recv(1)
    os.waitpid(child, 0)


def _naps():
    """Asks over and over: so does who waits for another thread."""
    end = time.monotonic() + BLOCKED
    while time.monotonic() < end:
        time.sleep(0.02)


def _event():
    """What only this process can end: an older thread does."""
    event = threading.Event()
    threading.Timer(BLOCKED, event.set).start()
    event.wait()


KINDS = {
    f.__name__[1:]: f
    for f in (_sleep, _child, _pipe, _poll, _open, _uninterruptible, _tcp, _naps, _event)
}


def block(kind):
    if kind is not None:
        KINDS[kind]()


def describe(error):
    text = f"{type(error).__name__}: {error}"
    for noise in (ROOT, str(os.getpid())):
        text = text.replace(noise, "...")
    # Addresses and idents differ from run to run.
    return text.split(" at 0x")[0].split(" at 1")[0].split(" (")[0]


def thread(name, function, **kwargs):
    """Starts `function` in a thread; its result or error goes to results[name]."""

    def run():
        _threads[name] = threading.get_ident()
        try:
            reach("ready " + name)
            results[name] = function()
        except BaseException as error:
            results[name] = describe(error)
        finally:
            reach("done " + name)

    started = threading.Thread(target=run, name=name, **kwargs)
    started.start()
    return started


def this_is(name):
    """Gives the calling thread a name to wait for."""
    _threads[name] = threading.get_ident()
    reach("ready " + name)


def am_i(name):
    return _threads.get(name) == threading.get_ident()


def statement(source):
    """A function of no arguments that runs `source` and gives back its variable `result`."""
    code = compile(source, "<consumer>", "exec")

    def run():
        space = {}
        exec(code, space)
        return space.get("result", "ok")

    return run


def report():
    for name in sorted(results):
        print(f"{name}: {results[name]}")
