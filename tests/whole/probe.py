# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""Prints, as one JSON object, all that a program can see of how it was started. Runs under stock and under pylaunch."""

import atexit
import faulthandler
import gc
import io
import json
import locale
import os
import resource
import signal
import sys
import threading
import time
import tracemalloc
import warnings


def read(path, mode="r"):
    with open(path, mode) as file:
        return file.read()


fds = {}
for name in os.listdir("/proc/self/fd"):
    try:
        target = os.readlink("/proc/self/fd/" + name)
    except OSError:  # The descriptor of the listing itself.
        continue
    fds[name] = target.split(":")[0] if target.startswith(("pipe:", "socket:")) else target

status = dict(line.split(":\t", 1) for line in read("/proc/self/status").splitlines())
raw_environ = read("/proc/self/environ", "rb").split(b"\0")


def stream(file):
    if file is None:
        return None
    return {
        "encoding": file.encoding,
        "errors": file.errors,
        "line_buffering": file.line_buffering,
        "write_through": getattr(file, "write_through", None),
        "newlines": repr(file.newlines),
        "isatty": file.isatty(),
        "fileno": file.fileno(),
        "mode": file.mode,
        "name": file.name,
        "buffer": type(getattr(file, "buffer", None)).__name__,
    }


def children():
    try:
        return [os.waitpid(-1, os.WNOHANG)[0]]
    except ChildProcessError:
        return "none"


def open_flags(fd):
    try:
        return read(f"/proc/self/fdinfo/{fd}").split("flags:")[1].split()[0]
    except OSError:
        return None


main = sys.modules["__main__"]
state = {
    "argv": sys.argv,
    "orig_argv": sys.orig_argv[1:],
    "orig_argv_length": len(sys.orig_argv),
    "path": sys.path,
    "flags": repr(sys.flags),
    "prefixes": [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix],
    "platlibdir": sys.platlibdir,
    "stdlib_dir": getattr(sys, "_stdlib_dir", None),
    "executable": sys.executable,
    "base_executable": sys._base_executable,
    "home": getattr(sys, "_home", None),
    "version": sys.version,
    "implementation": repr(sys.implementation),
    "abiflags": sys.abiflags,
    "warnoptions": sys.warnoptions,
    "filters": repr(warnings.filters),
    "xoptions": repr(sys._xoptions),
    "pycache_prefix": sys.pycache_prefix,
    "dont_write_bytecode": sys.dont_write_bytecode,
    "recursion_limit": sys.getrecursionlimit(),
    "switch_interval": sys.getswitchinterval(),
    "dlopen_flags": sys.getdlopenflags(),
    "thread_info": repr(sys.thread_info),
    "stack_size": threading.stack_size(),
    "hooks": [repr(sys.excepthook), repr(sys.displayhook), repr(sys.unraisablehook)],
    "breakpointhook": repr(sys.breakpointhook),
    "ps1": getattr(sys, "ps1", None),
    "tracing": [repr(sys.gettrace()), repr(sys.getprofile())],
    "path_hooks": [getattr(x, "__qualname__", repr(x)) for x in sys.path_hooks],
    "meta_path_stock": [
        x.__name__
        for x in sys.meta_path
        if getattr(x, "__module__", "").startswith("_frozen_importlib")
    ],
    "modules": sorted(sys.modules),
    "import": repr(__builtins__.__import__ if hasattr(__builtins__, "__import__") else None),
    "main": sorted(vars(main)),
    "main_name": main.__name__,
    "main_file": getattr(main, "__file__", None),
    "main_spec": repr(main.__spec__).split(" object at 0x")[0],
    "main_loader": type(main.__loader__).__name__ + repr(main.__loader__).split(" at 0x")[0],
    "main_package": main.__package__,
    "main_cached": getattr(main, "__cached__", None),
    "threads": [t.name for t in threading.enumerate()],
    "atexit": atexit._ncallbacks(),
    "stdin": stream(sys.stdin),
    "stdout": stream(sys.stdout),
    "stderr": stream(sys.stderr),
    "dunder_std": [sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__],
    "fds": fds,
    "fd_flags": {fd: open_flags(int(fd)) for fd in fds},
    "locale": [locale.setlocale(locale.LC_ALL), locale.getpreferredencoding(False)],
    "encodings": [
        sys.getfilesystemencoding(),
        sys.getfilesystemencodeerrors(),
        sys.getdefaultencoding(),
        io.text_encoding(None),
    ],
    "environ": sorted(os.environ.items()),
    "environ_order": list(os.environ),
    "raw_environ": sorted(x.decode(errors="replace") for x in raw_environ if x),
    "cwd": os.getcwd(),
    "umask": [old := os.umask(0o22), os.umask(old)][0],
    "signals": {s.name: str(signal.getsignal(s)) for s in signal.Signals},
    "signal_mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "signal_bits": {k: status[k] for k in ("SigPnd", "SigBlk", "SigIgn", "SigCgt")},
    "wakeup_fd": signal.set_wakeup_fd(-1),
    "itimer": signal.getitimer(signal.ITIMER_REAL),
    "children": children(),
    "kernel_threads": status["Threads"],
    "comm": status["Name"],
    "cmdline": read("/proc/self/cmdline").split("\0")[1:],
    "exe": os.readlink("/proc/self/exe"),
    "privileges": {k: status.get(k) for k in ("NoNewPrivs", "Seccomp", "CapEff", "Groups", "Uid")},
    "dumpable": os.stat("/proc/self/stat").st_uid,
    "personality": read("/proc/self/personality"),
    "rlimits": {
        name: resource.getrlimit(getattr(resource, name))
        for name in dir(resource)
        if name.startswith("RLIMIT_")
    },
    "scheduling": [os.nice(0), sorted(os.sched_getaffinity(0)), os.sched_getscheduler(0)],
    "oom": read("/proc/self/oom_score_adj"),
    "leader": [os.getpgrp() == os.getpid(), os.getsid(0) == os.getpid()],
    "parent": os.getppid() == int(os.environ.get("PROBE_PARENT", os.getppid())),
    "faulthandler": faulthandler.is_enabled(),
    "tracemalloc": tracemalloc.is_tracing(),
    "asserts": __debug__,
    "tzname": time.tzname,
    "gc": [gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), gc.get_debug()],
    "gc_callbacks": len(gc.callbacks),
    "gc_garbage": len(gc.garbage),
    "gc_sees_modules": any(x is os for x in gc.get_objects()),
    "annotations": sorted(x for x in dir(sys) if "pylaunch" in x),
    "leftovers": sorted(
        name for name in sys.modules if "pylaunch" in name.lower() or "engine" in name.lower()
    ),
}
if os.environ.get("PROBE_HASH"):
    state["hash"] = hash("pylaunch")
try:
    import _testinternalcapi

    config = _testinternalcapi.get_configs()["config"]
    # `_init_main` tells only that the interpreter was started in two steps; nobody reads it afterwards.
    state.update({f"config.{k}": repr(v) for k, v in config.items() if k != "_init_main"})
    state["preconfig"] = repr(_testinternalcapi.get_configs()["pre_config"])
except (ImportError, AttributeError, KeyError):
    pass
json.dump(state, sys.stdout)
