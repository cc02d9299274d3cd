# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""What the two-thread programs share: modules on disk, and meeting points that need no sleeping.

A module body holds everybody up at a known point by waiting until the other thread either got somewhere (`reach`) or is
parked in an import: its stack stands still, inside importlib's lock (stock) or at an import statement (pylaunch).
"""

import faulthandler
import os
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
    """Waits until one of `points` is reached or the thread named `parked` is parked in an import."""
    while not any(point in _reached for point in points):
        if parked in _threads and has_reached("ready " + parked) and is_parked(_threads[parked]):
            return "parked"
        time.sleep(0.001)
    return "reached"


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
