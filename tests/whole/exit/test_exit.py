# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""--exit fast ends a program as stock does: what it prints, its exit code and the files it leaves are the same."""

import importlib.util
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from conftest import Result, Runner, clean_environment, finish, serial, start

STDLIB = "logging json typing functools collections dataclasses re os io tempfile threading weakref unittest random"
STDLIB += " concurrent.futures.thread asyncio sqlite3 zipfile gzip multiprocessing subprocess atexit contextlib copy enum"
LINE = "pylaunch: explain: exit: "
FAST = "preloaded modules are not taken apart"
HOLDS = "full teardown, preloaded modules hold objects of the program"

D = """
import sys, gc, weakref
class D:
    def __init__(self, name): self.name = name
    def __del__(self): print('del', self.name)
"""

# What is proved by finalisation alone: nothing of the program is held by a preloaded module, so this ends fast.
FREE = {
    "nothing": "pass",
    "print": "print('x', end='')",
    "file never closed": "f = open('f', 'w'); f.write('data')",
    "file in a cycle": "class C: pass\nc = C(); c.c = c; c.f = open('f', 'w'); c.f.write('data'); del c",
    "file in a closure": "def outer():\n    f = open('f', 'w')\n    def inner(): f.write('data')\n    return inner\ni = outer(); i()",
    "binary files": "a = open('a', 'wb'); a.write(b'x'*10); b = open('b', 'w+b'); b.write(b'y'); c = open('c', 'xb', buffering=0); c.write(b'z')",
    "file of a function's default": "def f(x=open('f', 'w')): x.write('data')\nf()",
    "del": D + "a = D('a'); b = D('b'); _c = D('c')",
    "del order": D
    + "l = [D(i) for i in range(5)]; d = {i: D('d%d' % i) for i in range(3)}; x = D('x')",
    "del in cycle": D + "a = D('a'); a.a = a; del a; b = D('b'); b.b = b",
    "del uses globals": D
    + "import json\nclass E:\n    def __del__(self): print(json.dumps({'x': 1}), D, sys.flags.optimize)\ne = E()",
    "del opens": D + "class E:\n    def __del__(self): print(open)\ne = E()",
    "del imports": "class E:\n    def __del__(self):\n        import json, string, wave\n        print('never')\ne = E()",
    "del raises": "class E:\n    def __del__(self): raise ValueError('x')\ne = E()",
    "del revives": "k = []\nclass E:\n    def __del__(self): k.append(self); print('again', len(k))\ne = E()",
    "del writes a file": "f = open('f', 'w')\nclass E:\n    def __del__(self): f.write('late')\ne = E()",
    "del exits": "import sys\nclass E:\n    def __del__(self): sys.exit(4)\ne = E()",
    "del prints unflushed": "class E:\n    def __del__(self): print('late', end='')\ne = E(); e.e = e",
    "cycle's del imports": "class E:\n    def __del__(self):\n        import json, sys, wave, logging.handlers\n        print(json.dumps([1]), 'os' in sys.modules, wave.__name__, len(sys.modules) > 50)\ne = E(); e.e = e; del e",
    "cycle's del pickles": "import random\nclass E:\n    def __del__(self):\n        import pickle\n        pickle.dump(random.Random(1), open('f', 'wb'))\ne = E(); e.e = e; del e",
    "cycle's del uses codecs and processes": "import subprocess, time\nclass E:\n    def __del__(self):\n        open('f', 'w', encoding='cp1252').write('ä')\n        print(subprocess.run(['true']), time.strptime('2020', '%Y'))\ne = E(); e.e = e; del e",
    "cycle's del empties sys.modules": "import sys\nclass E:\n    def __del__(self): sys.modules.clear()\nf = open('f', 'w'); f.write('x'); e = E(); e.e = e; del e",
    "cycle's generator imports": "def g():\n    try: yield\n    finally:\n        import json, sys, colorsys\n        print(sys.modules['json'] is json, colorsys.__name__)\nl = []; l.append(g()); next(l[0]); l.append(l); del l",
    "cycle's callback imports": "import weakref\nclass C: pass\ndef gone(_):\n    import json, colorsys, sys\n    print(sys.modules['json'] is json, colorsys.__name__)\nc = C(); c.c = c; r = weakref.ref(c, gone); del c",
    "del of what stood in sys imports": "import sys\nclass E:\n    def __del__(self):\n        import json\n        print(sys.modules['json'] is json)\n    def write(self, text): sys.__stdout__.write(text)\n    def flush(self): pass\nsys.last_value = E(); sys.__interactivehook__ = E(); sys.stdout = E()",
    "generator": "def g():\n    try: yield 1\n    finally: print('closed')\nx = g(); next(x)",
    "generator in cycle": "def g(l):\n    try: yield 1\n    finally: print('closed')\nl = []; l.append(g(l)); next(l[0]); del l",
    "context manager open": "import contextlib\n@contextlib.contextmanager\ndef c():\n    try: yield\n    finally: print('out')\nm = c(); m.__enter__()",
    "weakref callback": D
    + "a = D('a'); r = weakref.ref(a, lambda _: print('gone')); b = D('b'); s = weakref.ref(b, lambda _: print('gone b'))",
    "weakref first": D + "r = None\nb = D('b'); r = weakref.ref(b, lambda _: print('gone b'))",
    "finalize": D
    + "a = D('a'); weakref.finalize(a, print, 'fin a'); b = D('b'); weakref.finalize(b, print, 'fin b').atexit = False",
    "function of Py_AtExit": "import ctypes\nctypes.pythonapi.Py_AtExit(ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p))",
    "function of C's atexit": "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.__cxa_atexit(ctypes.cast(libc.abort, ctypes.c_void_p), None, None)",
    "atexit order": "import atexit\nfor i in range(3): atexit.register(print, i)\natexit.register(lambda: atexit.register(print, 'nested'))",
    "atexit raises": "import atexit\natexit.register(print, 'last')\natexit.register(lambda: 1 / 0)",
    "atexit exits": "import atexit, sys\natexit.register(sys.exit, 5)",
    "atexit writes": "import atexit\nf = open('f', 'w')\natexit.register(f.write, 'late')",
    "exit code": "import sys; sys.exit(3)",
    "exit text": "import sys; sys.exit('words')",
    "exit none": "import sys; sys.exit(None)",
    "exit big": "import sys; sys.exit(256 + 7)",
    "exit in function": D + "def f():\n    local = D('local')\n    sys.exit(9)\nf()",
    "exit in generator": "import sys\ndef g():\n    try: yield; sys.exit(4)\n    finally: print('fin')\nfor _ in g(): pass",
    "exit in thread": "import sys, threading\nt = threading.Thread(target=sys.exit, args=(3,)); t.start(); t.join(); print('on')",
    "os._exit": "import os; f = open('f', 'w'); f.write('lost'); print('lost'); os._exit(2)",
    "quit": "quit(6)",
    "exception": D
    + "def f():\n    local = D('local')\n    f2 = open('f', 'w'); f2.write('x')\n    raise ValueError('bad')\nf()",
    "exception chained": "try: 1 / 0\nexcept ZeroDivisionError as e: kept = e; raise KeyError('k') from e",
    "exception group": "import sys\nraise ExceptionGroup('g', [ValueError(1), TypeError(2)]) if sys.version_info >= (3, 11) else ValueError(1)",
    "excepthook": "import sys\nsys.excepthook = lambda *a: print('hook', a[0])\n1 / 0",
    "excepthook raises": "import sys\ndef h(*a): raise RuntimeError('hook')\nsys.excepthook = h\n1 / 0",
    "unraisablehook": "import sys\nsys.unraisablehook = lambda u: print('unraisable', u.exc_type)\nclass E:\n    def __del__(self): 1 / 0\ne = E(); e.e = e; del e",
    "keyboard interrupt": "raise KeyboardInterrupt",
    "syntax error": "def f(:",
    "system exit subclass": "class E(SystemExit): pass\nraise E(11)",
    "joined thread": "import threading, time\nthreading.Thread(target=lambda: (time.sleep(.2), print('thread done'))).start()\nprint('main done')",
    "thread imports at the end": "import threading, time\ndef f():\n    time.sleep(.2); import wave, colorsys; print(wave.__name__)\nthreading.Thread(target=f).start()",
    "daemon thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(99,), daemon=True).start()\nprint('main done')",
    "daemon thread busy": "import threading, time\ndef f():\n    while True: json = __import__('json').dumps([1] * 100)\nthreading.Thread(target=f, daemon=True).start()\ntime.sleep(.1)",
    "executor": "import concurrent.futures.thread as t, time\np = t.ThreadPoolExecutor(2); p.submit(lambda: (time.sleep(.2), print('ran')))",
    "executor from atexit": "import concurrent.futures.thread as t, atexit\np = t.ThreadPoolExecutor(2)\ndef late():\n    try: p.submit(print, 'x')\n    except RuntimeError as e: print(e)\natexit.register(late)",
    "timer": "import threading\nthreading.Timer(.1, print, ['tick']).start()",
    "temporary directory": "import tempfile, os\nd = tempfile.TemporaryDirectory(dir='.'); open(d.name + '/x', 'w').write('x')",
    "temporary file": "import tempfile\nf = tempfile.NamedTemporaryFile(dir='.'); f.write(b'x')",
    "temporary file kept": "import tempfile\nf = tempfile.NamedTemporaryFile(dir='.', prefix='kept', suffix='', delete=False); f.write(b'x')\nimport os; os.rename(f.name, 'kept')",
    "zip never closed": "import zipfile\nz = zipfile.ZipFile('z', 'w'); z.writestr('a', 'b' * 99)",
    "gzip never closed": "import gzip\ng = gzip.GzipFile('g', 'wb', mtime=0); g.write(b'data' * 99)",
    "import in del later": "import json\nclass X:\n def __del__(self):\n  import json\nx = X()",
    "gzip text": "import gzip, io\nt = io.TextIOWrapper(gzip.GzipFile('g', 'wb', mtime=0)); t.write('data' * 99)",
    "bz2 and lzma": "import bz2, lzma\nb = bz2.open('b', 'wb'); b.write(b'x' * 999); l = lzma.open('l', 'wb'); l.write(b'y' * 999)",
    "sqlite uncommitted": "import sqlite3\nc = sqlite3.connect('db'); c.execute('create table t (x)'); c.commit(); c.execute('insert into t values (1)')",
    "sqlite wal": "import sqlite3\nc = sqlite3.connect('db'); c.execute('pragma journal_mode=wal'); c.execute('create table t (x)'); c.commit(); c.execute('insert into t values (1)'); c.commit()",
    "shelve": "import shelve\ns = shelve.open('s', 'n'); s['a'] = [1]\nimport os; print(sorted(x[:1] for x in os.listdir('.')))",
    "shared memory": "from multiprocessing import shared_memory\ns = shared_memory.SharedMemory(create=True, size=8); n = s.name; s.close(); s.unlink()",
    "process": "import multiprocessing as m\nif __name__ == '__main__':\n    m.set_start_method('fork')\n    p = m.Process(target=print, args=('child',)); p.start()",
    "process pool": "import multiprocessing as m\ndef f(x): return x * x\nif __name__ == '__main__':\n    m.set_start_method('fork')\n    p = m.Pool(2); print(p.map(f, range(4))); p.terminate(); p.join()",
    "manager": "import multiprocessing as m\nif __name__ == '__main__':\n    m.set_start_method('fork')\n    a = m.Manager(); l = a.list([1]); l.append(2); print(list(l))",
    "fork runs off the end": D
    + "import os\nd = D('d'); f = open('f%d' % 0, 'a')\nif os.fork() == 0: f.write('child'); print('child')\nelse: os.wait(); f.write('parent'); print('parent')",
    "fork exits": "import os, sys\nif os.fork() == 0: sys.exit(3)\nprint(os.waitstatus_to_exitcode(os.wait()[1]))",
    "fork _exits": "import os\nif os.fork() == 0: os._exit(3)\nprint(os.waitstatus_to_exitcode(os.wait()[1]))",
    "popen running": "import subprocess\np = subprocess.Popen(['sleep', '0.1'])",
    "asyncio run": "import asyncio\nasync def f():\n    await asyncio.sleep(.01); print('ran')\nasyncio.run(f())",
    "coroutine never awaited": "import asyncio\nasync def f(): pass\nc = f()",
    "c stdio": "import ctypes\nctypes.CDLL(None).printf(b'from C\\n')",
    "ctypes callback": "import ctypes\nF = ctypes.CFUNCTYPE(None)\nc = F(lambda: print('at C exit', flush=True))\nctypes.pythonapi.Py_AtExit",
    "closed stdout": "import sys; print('x'); sys.stdout.close()",
    "stdout none": "import sys; sys.stdout = None",
    "stdout replaced": "import sys, io\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer, 'utf-8', write_through=False); print('grün')",
    "stdout wrapped": "import sys\nclass Tee:\n    def __init__(self, f): self.f = f\n    def write(self, t): return self.f.write(t.upper())\n    def flush(self): self.f.flush()\nsys.stdout = Tee(sys.stdout); print('tee')",
    "stdout of the program for good": "import os, sys\nclass Tee:\n    closed = False\n    def write(self, text): os.write(1, text.encode())\n    def flush(self): os.write(1, b'flush\\n')\nsys.stdout = sys.__stdout__ = Tee(); print('x')",
    "stdout fd closed": "import os; print('x'); os.close(1)",
    "stderr fd closed": "import os, sys; os.close(2); sys.stderr.write('x')",
    "flush raises": "import sys\nclass F:\n    closed = False\n    def write(self, t): pass\n    def flush(self): raise OSError('no')\nsys.stdout = F()",
    "modules removed": "import sys\nfor m in list(sys.modules):\n    if m not in ('sys', 'builtins', '__main__'): del sys.modules[m]",
    "modules replaced by another": "import sys, json\ndel sys.modules['json']; import json as again; print(again is json)",
    "module of the program": "import helper\nhelper.keep = open('f', 'w'); helper.keep.write('data')",
    "module with del": "import helper\nx = helper.D('x'); helper.y = helper.D('y')",
    "module deleted": "import sys, helper\nx = helper.D('x'); del sys.modules['helper']",
    "builtins": D + "import builtins\nbuiltins.d = D('in builtins'); builtins._ = D('_')",
    "sys.last_value": "import sys\nclass E(Exception):\n    def __del__(self): print('e gone')\nsys.last_value = E()",
    "gc disabled": D + "gc.disable(); d = D('d'); d.d = d; del d; e = D('e')",
    "gc frozen": D + "d = D('d'); d.d = d; f = open('f', 'w'); f.write('x'); gc.freeze()",
    "gc froze and thawed": D
    + "d = D('d'); d.d = d; gc.freeze(); gc.collect(); e = D('e'); gc.unfreeze(); f = open('f', 'w'); f.write('x')",
    "gc collected": D
    + "d = D('d'); gc.collect(); e = D('e'); gc.collect(); f = open('f', 'w'); f.write('x')",
    "slots": D
    + "class S:\n    __slots__ = ('a', '__weakref__')\n    def __del__(self): print('slots')\ns = S(); s.a = D('in slot')",
    "no gc head": "class S:\n    __slots__ = ()\n    def __del__(self): print('bare')\ns = S(); l = [S()]",
    "metaclass del": "class M(type):\n    def __del__(cls): print('class gone')\nclass C(metaclass=M): pass",
    "tracemalloc": "import tracemalloc; tracemalloc.start(); x = [1] * 1000",
    "faulthandler": "import faulthandler; faulthandler.enable(); faulthandler.dump_traceback_later(99)",
    "unittest": "import unittest\nclass T(unittest.TestCase):\n    def test(self): pass\n    @classmethod\n    def tearDownClass(cls): print('down')\nunittest.main(argv=['x'], verbosity=0, exit=False)\nimport sys; sys.stderr = None",
    "dataclass": "import dataclasses\n@dataclasses.dataclass\nclass C:\n    x: int = 1\nprint(C())",
    "enum": "import enum\nclass E(enum.Enum):\n    A = 1\nprint(E.A)",
    "signal handler": "import signal\nsignal.signal(signal.SIGTERM, lambda *a: print('term'))\nsignal.raise_signal(signal.SIGTERM)",
    "sigint handler": "import signal\nsignal.signal(signal.SIGINT, lambda *a: print('int'))\nsignal.raise_signal(signal.SIGINT)",
    "kills itself": "import os, signal\nf = open('f', 'w'); f.write('lost'); os.kill(os.getpid(), signal.SIGTERM)",
    "interrupts itself": "import os, signal, time\nf = open('f', 'w'); f.write('x')\nos.kill(os.getpid(), signal.SIGINT); time.sleep(9)",
}

EXIT_ON_THREAD = """
import ctypes, logging, _thread, time
f = open('f', 'w'); f.write('data'); logging.Formatter.held = f; del f
run = ctypes.pythonapi.PyRun_SimpleString
_thread.start_new_thread(lambda: (time.sleep(.2), run(b'raise SystemExit(3)')), ())
time.sleep(9)
"""

# A preloaded module holds something of the program: CPython must do it all.
HELD = {
    "file that is frozen": "import gc, logging\nf = open('f', 'w'); f.write('data'); logging.Formatter.held = f; del f; gc.freeze()",
    "file in a dict that is frozen": "import gc, json.encoder\nf = open('f', 'w'); f.write('data'); json.encoder.ESCAPE_DCT['f'] = f; del f; gc.freeze()",
    "file that is frozen again": "import gc, logging\ngc.freeze(); gc.unfreeze()\nf = open('f', 'w'); f.write('data'); logging.Formatter.held = f; del f; gc.freeze()",
    "atexit cleared and no interrupt": "import atexit, logging, signal\nsignal.signal(signal.SIGINT, signal.SIG_DFL); atexit._clear()\nf = open('f', 'w'); f.write('data'); logging.Formatter.held = f; del f",
    "atexit run and no interrupt": "import atexit, logging, signal\natexit._run_exitfuncs(); signal.signal(signal.SIGINT, signal.SIG_DFL)\nf = open('f', 'w'); f.write('data'); logging.Formatter.held = f; del f",
    "exit on another thread of a child": "import os\nif os.fork(): print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True); os._exit(0)\n"
    + EXIT_ON_THREAD,
    "stdout over a file of the program": "import io, os, sys\nclass Raw(io.RawIOBase):\n    def writable(self): return True\n    def write(self, data): return os.write(1, data)\n    def flush(self): os.write(1, b'flush\\n')\nsys.stdout = sys.__stdout__ = io.TextIOWrapper(io.BufferedWriter(Raw())); print('x')",
    "by a cycle's del": D
    + "class E:\n    def __del__(self):\n        import json\n        json.held = D('held')\ne = E(); e.e = e; del e",
    "by a cycle's del, on a class": "import logging\nclass E:\n    def __del__(self): logging.Formatter.file = open('f', 'w'); logging.Formatter.file.write('data')\ne = E(); e.e = e; del e",
    "by a cycle's del, as a method": "import logging\nclass E:\n    def __del__(self): logging.Formatter.__del__ = lambda self: print('formatter gone')\ne = E(); e.e = e; del e",
    "database on a logger": "import logging, sqlite3\nc = sqlite3.connect('db'); c.execute('pragma journal_mode=wal'); c.execute('create table t (x)'); c.commit()\nlogging.getLogger().held = c",
    "database of a class in a list": "import logging, sqlite3\nclass C(sqlite3.Connection): pass\nc = C('db'); c.execute('pragma journal_mode=wal'); c.execute('create table t (x)'); c.commit()\nlogging.root.filters.append([c]); del c",
    "logging filter": "import logging\nf = open('f', 'w'); f.write('data')\ndef filter(record): return True\nlogging.getLogger().addFilter(filter)",
    "logging filter and del": D
    + "import logging\nd = D('d'); f = open('f', 'w'); f.write('data')\nlogging.getLogger().addFilter(lambda record: d)",
    "logging handler": "import logging\nclass H(logging.FileHandler): pass\nlogging.getLogger().addHandler(H('f')); logging.warning('x')\ng = open('g', 'w'); g.write('data')",
    "module attribute": D
    + "import json\njson.held = D('held'); json.file = open('f', 'w'); json.file.write('data')",
    "class attribute": D
    + "import logging\nlogging.Formatter.held = D('held'); logging.Handler.file = open('f', 'w'); logging.Handler.file.write('data')",
    "preloaded object of the program's class": "import logging\nclass W(logging.Formatter):\n    def __del__(self): print('W gone')\nlogging._defaultFormatter.__class__ = W",
    "preloaded class given __del__": "import logging\nlogging.Formatter.__del__ = lambda self: print('formatter gone')",
    "appended to a list": D
    + "import re, random, copy, collections\ncollections.abc.Sized.list = [D('a'), open('f', 'w')]; collections.abc.Sized.list[1].write('data')",
    "typing cache": D
    + "import typing\nd = D('d'); f = open('f', 'w'); f.write('data')\nx = typing.List[D]",
    "singledispatch": D
    + "import functools, copy\ncopy._deepcopy_dispatch[D] = lambda x, m: x\nd = D('d')",
    "instance in preloaded cache": D + "import re, enum\nre._cache[D, 1] = D('cached')",
    "generator held": "import json\ndef g():\n    try: yield 1\n    finally: print('closed')\njson.g = g(); next(json.g)",
    "asyncio loop left": "import asyncio\nloop = asyncio.new_event_loop(); asyncio.set_event_loop(loop)\nfut = loop.create_future()",
    "weakref callback, held": D
    + "import json\na = D('a'); r = weakref.ref(a, lambda _: print('gone')); json.h = lambda: a",
    "thread local": D + "import threading, json\njson.l = threading.local(); json.l.d = D('d')",
    "daemon thread holds": D
    + "import threading, time\ndef f():\n    d = D('in thread')\n    time.sleep(99)\nthreading.Thread(target=f, daemon=True).start()\ntime.sleep(.1)",
    "main deleted": D + "d = D('d')\ndel sys.modules['__main__']",
    "sys attributes": D
    + "sys.d = D('sys'); sys.path.append(D('path')); sys.ps1 = D('ps1'); sys.argv.append(D('argv'))",
    "settrace": "import sys\nsys.settrace(lambda *a: None)\nclass E:\n    def __del__(self): print('traced')\ne = E()",
}

# A preloaded module holds something of the program whose end nobody notices: fast, and as stock does.
QUIET = {
    "file in memory": "import io, logging\nlogging.Formatter.held = io.BytesIO(b'x'); logging.Formatter.text = io.TextIOWrapper(io.BytesIO()); logging.Formatter.text.write('lost')",
    "closed file": "import logging\nwith open('f', 'w') as f: f.write('data')\nlogging.Formatter.held = f",
    "file that is only read": "import logging\nlogging.Formatter.held = [open('p.py'), open('p.py', 'rb', buffering=0)]; logging.Formatter.held[0].read(1)",
    "handler that logging closed": "import logging\nlogging.basicConfig(filename='f'); logging.warning('x')",
    "generator of a library": "import logging, os\nlogging.Formatter.held = os.walk('.'); next(logging.Formatter.held)",
    "object of a library with __del__": "import logging, multiprocessing\nlogging.Formatter.held = multiprocessing.Pipe(); logging.Formatter.held[0].send(1); print(logging.Formatter.held[1].recv())",
    "socket": "import logging, socket\nlogging.Formatter.held = socket.socketpair()",
    "finished generator and task": "import asyncio, logging\nasync def f():\n    logging.Formatter.held = asyncio.ensure_future(asyncio.sleep(0)); await logging.Formatter.held\nasyncio.run(f())\ndef g(): yield\nlogging.Formatter.generator = g(); list(logging.Formatter.generator)",
    "function of a library in gc.callbacks": "import copy, gc\ngc.callbacks.append(copy._deepcopy_atomic)",
    "class and function of an extension's module": "import logging, sqlite3\nlogging.Formatter.held = sqlite3",
}

# Like those, but somebody would notice.
LOUD = {
    "file in memory of a class with close": "import io, logging\nclass B(io.BytesIO):\n    def close(self): print('closed'); super().close()\nlogging.Formatter.held = B()",
    "file that is only read, with warnings": "import logging, warnings\nwarnings.simplefilter('always'); logging.Formatter.held = open('p.py')",
    "file that is written": "import logging\nlogging.Formatter.held = open('f', 'w'); logging.Formatter.held.write('data')",
    "file that is read and written": "import logging\nlogging.Formatter.held = open('p.py', 'r+')",
    "generator of the program": "import logging\ndef g():\n    try: yield\n    finally: print('closed')\nlogging.Formatter.held = g(); next(logging.Formatter.held)",
    "task whose exception nobody has seen": "import asyncio, logging\nasync def g(): raise ValueError('x')\nasync def f():\n    logging.Formatter.held = asyncio.ensure_future(g()); await asyncio.sleep(.01)\nasyncio.run(f())",
    "coroutine that nobody has awaited": "import logging\nasync def f(): pass\nlogging.Formatter.held = f()",
    "class made from a library's with __del__": "import logging, multiprocessing.connection as c, os\nclass C(c.Connection):\n    def _close(self): print('closed'); super()._close()\nlogging.Formatter.held = C(os.open('p.py', os.O_RDONLY))",
    "socket, with warnings": "import logging, socket, warnings\nwarnings.simplefilter('always'); logging.Formatter.held = socket.socket()",
    "function of the program in gc.callbacks": "import gc\ngc.callbacks.append(lambda phase, info: print(phase))",
    "database": "import logging, sqlite3\nlogging.Formatter.held = sqlite3.connect('db'); logging.Formatter.held.execute('pragma journal_mode=wal'); logging.Formatter.held.execute('create table t (x)'); logging.Formatter.held.commit()",
}

# The program's state is not one that fast is proved for.
FULL = {
    "gc.callbacks": (
        "import gc\ngc.callbacks.append(lambda phase, info: print(phase, info['generation']))",
        (),
    ),
    "gc.set_debug": ("import gc, io, sys\ngc.set_debug(gc.DEBUG_UNCOLLECTABLE)", ()),
    "warnings": ("f = open('f', 'w'); f.write('x')", ("-W", "error::ResourceWarning")),
    "development mode": ("f = open('f', 'w'); f.write('x')\n", ("-X", "dev")),
}

HELPER = "class D:\n    def __init__(self, n): self.n = n\n    def __del__(self): print('helper del', self.n)\nkeep = None\n"


# Modules that the user works on, preloaded too.
LIB = {
    "app_file": "log = open('log', 'w')\nlog.write('at import ')\ndef write(text): log.write(text)\n",
    "app_db": "import sqlite3\nconnection = None\ndef connect():\n    global connection\n    connection = sqlite3.connect('db')\n    connection.execute('pragma journal_mode=wal')\n    connection.execute('create table t (x)'); connection.commit()\n",
    "app_del": "class D:\n    def __del__(self): print('app del', cache)\ncache = {}\nd = D()\n",
    "app_registry": "things = []\nclass Base:\n    classes = []\n    def __init_subclass__(cls): Base.classes.append(cls)\n",
    "app_generator": "def g():\n    try: yield\n    finally: print('app generator closed')\nx = g(); next(x)\n",
    "app_atexit": "import atexit, weakref\natexit.register(print, 'app atexit')\nclass C: pass\nc = C(); weakref.finalize(c, print, 'app finalize')\n",
}
PRELOADED = {
    "file written at import": ("app_file", "import app_file"),
    "file written by the program": ("app_file", "import app_file; app_file.write('and later')"),
    "database": ("app_db", "import app_db; app_db.connect()"),
    "del": ("app_del", "import app_del; app_del.cache['x'] = 1"),
    "registry of classes": (
        "app_registry",
        "import app_registry\nf = open('f', 'w'); f.write('data')\nclass C(app_registry.Base): pass",
    ),
    "registry of objects": (
        "app_registry",
        "import app_registry\nclass C:\n    def __del__(self): print('C gone')\napp_registry.things.append(C())",
    ),
    "generator": ("app_generator", "pass"),
    "atexit": ("app_atexit", "import atexit; atexit.register(print, 'program atexit')"),
    "everything": (" ".join(LIB), "print('x')\nf = open('f', 'w'); f.write('data')"),
}

# The rest of the outside world.
OUTPUT_FAILS = {
    "nothing printed": "pass",
    "printed": "print('x')",
    "printed and exit code": "import sys; print('x'); sys.exit(3)",
    "printed by del": "class E:\n    def __del__(self): print('late')\ne = E(); e.e = e",
    "printed by atexit": "import atexit; atexit.register(print, 'late')",
    "exception": "print('x'); 1 / 0",
}
SIGNALLED = {
    "in an atexit callback": "import atexit, time\nf = open('f', 'w'); f.write('x')\natexit.register(lambda: (print('ready', flush=True), time.sleep(9)))",
    "in a thread's join": "import threading, time\nf = open('f', 'w'); f.write('x')\nthreading.Thread(target=lambda: (print('ready', flush=True), time.sleep(1))).start()",
    "in del": "import time\nf = open('f', 'w'); f.write('x')\nclass E:\n    def __del__(self): print('ready', flush=True); time.sleep(1); print('went on', flush=True)\ne = E(); e.e = e",
    "in the program": "import time\nf = open('f', 'w'); f.write('x'); print('ready', flush=True)\ntry: time.sleep(9)\nfinally: print('finally', flush=True)",
}


@pytest.fixture
def ends(lab, tmp_path):
    """Runs a program under stock and with --preload, whose exit is the fast one, and asserts that both did the same; returns how it ended."""
    lab.need_pylaunch()
    runner = Runner(lab, "off", tmp_path, tmp_path)
    site = tmp_path / "site"
    site.mkdir()
    lib = tmp_path / "lib"
    lib.mkdir()
    for name, text in LIB.items():
        (lib / f"{name}.py").write_text(text)

    def run(program, *options, preload=STDLIB, python=None, inline=False, image=None, **kwargs):
        runner.python = python or lab.python
        outcomes = []
        flags = ["--explain", *(f"--preload={name}" for name in preload.split())]
        for name in ("stock", "fast"):
            cwd = image.cwd if image and name == "fast" else tmp_path / name
            shutil.rmtree(cwd, ignore_errors=True)
            cwd.mkdir()
            (cwd / "helper.py").write_text(HELPER)
            (cwd / "p.py").write_text(program)
            if name == "stock":
                # What is imported before the program also decides what lives how long, so stock imports it too.
                imports = "".join(f"import {name}\n" for name in preload.split())
                if inline:
                    (cwd / "p.py").write_text(imports + program)
                else:
                    (site / "sitecustomize.py").write_text(imports)
                result = runner.stock(
                    *options, "p.py", cwd=cwd, env={"PYTHONPATH": f"{site}:{lib}"}, **kwargs
                )
            elif image:
                result = image.restore("p.py", **kwargs)
            else:
                env = {"PYTHONPATH": str(lib)}
                result = runner.again(*options, "p.py", cwd=cwd, env=env, flags=flags, **kwargs)
            (cwd / "p.py").unlink()
            outcomes.append((_plain(result, cwd), _files(cwd)))
        told = [line for line in result.err.splitlines() if line.startswith(LINE)]
        assert outcomes[1] == outcomes[0]
        return "\n".join(told)

    return run


class Image:
    """One image of a process that has preloaded STDLIB, and programs started from it in one folder, which is emptied."""

    def __init__(self, lab, folder: Path):
        self.runner = Runner(lab, "image", folder, folder / "cache")
        self.cwd = folder / "cwd"
        self.flags = ["--image", "--explain", *(f"--preload={name}" for name in STDLIB.split())]

    def make(self):
        self.cwd.mkdir()
        (self.cwd / "helper.py").write_text(HELPER)
        (self.cwd / "p.py").write_text("pass")
        time.sleep(0.1)  # A name that comes while an image is made is no part of it.
        self.runner.again("p.py", cwd=self.cwd, flags=self.flags, env={"PYLAUNCH_SEAL": "wait"})
        return self

    def restore(self, *args, **kwargs):
        result = self.runner.again(*args, cwd=self.cwd, flags=self.flags, **kwargs)
        assert re.search("image: /.*[.]img", result.err), result.err
        return result


@pytest.fixture(scope="module")
def image(lab, tmp_path_factory):
    lab.need_pylaunch()
    return Image(lab, tmp_path_factory.mktemp("image")).make()


def _plain(result: Result, cwd):
    err = "".join(
        line
        for line in result.err.splitlines(keepends=True)
        if not line.startswith("pylaunch: explain:")
    )
    # Addresses, and how long unittest's tests took.
    texts = [
        re.sub(r"0x[0-9a-f]+|(?<= in )\d+\.\d+s", "0x", t.replace(str(cwd), "<cwd>"))
        for t in (result.out, err)
    ]
    return (result.code, *texts)


def _files(cwd):
    found = {}
    for path in sorted(cwd.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            data = path.read_bytes()
            # zipfile, sqlite and Berkeley DB write the time of day, a counter or a number of their own.
            found[str(path.relative_to(cwd))] = (
                len(data) if path.name in ("z", "db", "s.db") else data
            )
    return found


# multiprocessing's tracker of resources has a finalizer there, and its extensions' types nobody has read (quiet_types.txt).
HELD_FROM_3_14 = {"shared memory", "process", "process pool", "manager"}


@pytest.mark.parametrize("name", FREE)
def test_program_that_no_preloaded_module_holds_ends_as_in_stock(ends, lab, name):
    told = ends(FREE[name])
    if lab.version < (3, 14) or name not in HELD_FROM_3_14:
        assert HOLDS not in told


IMPORTS_IN_DEL = """
import types
m = types.ModuleType("m")
exec('''class X:
    def __del__(self):
        import json, os.path, concurrent.futures
        from gzip import compress
        print(json.dumps([1]), os.path.sep, concurrent.futures.__name__, compress.__name__)''', m.__dict__)
x = m.X()
del m
"""


@pytest.mark.every_python
def test_what_main_held_may_import_while_modules_are_removed(ends):
    """Nothing lives on of `__main__` but what it held, which goes while other modules are still there."""
    ends(IMPORTS_IN_DEL, preload="json concurrent.futures gzip")


@pytest.mark.parametrize("name", HELD)
def test_what_a_preloaded_module_holds_ends_as_in_stock(ends, name):
    ends(HELD[name])


@pytest.mark.parametrize("name", QUIET)
def test_what_nobody_notices_does_not_keep_a_program_from_a_fast_end(ends, name):
    told = ends(QUIET[name])
    assert FAST in told
    assert "full teardown" not in told


SPAWNED = "import multiprocessing as m\ndef f(q): q.put(1)\nif __name__ == '__main__':\n    c = m.get_context('spawn'); q = c.Queue(); p = c.Process(target=f, args=(q,)); p.start(); print(q.get()); p.join()"


def test_spawned_worker_that_has_used_its_queue_ends_fast(lab, installed, tmp_path):
    """With pylaunch in the environment's bin, workers start as their parent did."""
    (tmp_path / "p.py").write_text(SPAWNED)
    names = "connection popen_spawn_posix queues reduction resource_tracker spawn synchronize util"
    preload = "\n".join(f"import multiprocessing.{name}" for name in names.split())
    env = {"PYLAUNCH_PRELOAD": preload, "PYLAUNCH_EXPLAIN": "1", "PYLAUNCH_CACHE_MODE": "off"}
    argv = [str(installed / "bin/pylaunch"), "p.py"]
    code, out, err = finish(start(argv, {**clean_environment(lab.home), **env}, tmp_path))
    assert (code, out) == (0, b"1\n"), err
    assert err.count(FAST.encode()) >= 2, "of the program and of its worker"
    if lab.version < (3, 14):  # Its resource tracker has a finalizer.
        assert b"full teardown" not in err


@pytest.mark.parametrize("name", LOUD)
def test_what_somebody_notices_gets_the_full_teardown(ends, name):
    assert "full teardown" in ends(LOUD[name])


def test_database_that_a_late_module_holds_goes_with_that_module(ends, lab):
    """Only the module itself is held by a preloaded one, and CPython wipes it."""
    program = LOUD["database"].replace("logging.Formatter.held", "sqlite3.held")
    told = ends(program + "; logging.Formatter.held = sqlite3", preload="logging")
    assert FAST in told
    assert ("full teardown" in told) == (lab.version >= (3, 12)), (
        "a connection has a finalizer then"
    )


@pytest.mark.every_python
@pytest.mark.parametrize("name", FULL)
def test_state_that_is_not_proved_gets_the_full_teardown(ends, name):
    program, options = FULL[name]
    assert "full teardown" in ends(program, *options)


@pytest.mark.parametrize("name", [*FREE, *HELD, *QUIET, *LOUD])
def test_restored_program_ends_as_in_stock(ends, image, name):
    told = ends({**FREE, **HELD, **QUIET, **LOUD}[name], image=image)
    assert name not in QUIET or (FAST in told and "full teardown" not in told)
    assert name not in LOUD or "full teardown" in told


@pytest.mark.parametrize("name", OUTPUT_FAILS)
def test_broken_stdout_of_a_restored_program(ends, image, name):
    with open("/dev/full", "w") as full:
        ends(OUTPUT_FAILS[name], image=image, stdout=full)


def test_files_in_memory_are_in_nobody_s_way(ends, tmp_path):
    memory = "import io\nheld = io.BytesIO(b'x'), io.StringIO('y')\nheld[0].read(1)\n"
    (tmp_path / "lib" / "memory.py").write_text(memory)
    assert FAST in ends("import memory; print(memory.held[1].read())", preload="memory")
    loud = "import io\nclass L(io.BytesIO):\n    def close(self): print('closed'); super().close()\nheld = L()\n"
    (tmp_path / "lib" / "memory.py").write_text(loud)
    shutil.rmtree(tmp_path / "lib" / "__pycache__", ignore_errors=True)
    assert "full teardown" in ends("print(1)", preload="memory")


def test_the_usual_program_ends_fast(ends):
    assert FAST in ends(
        "print(1)\nf = open('f', 'w'); f.write('x')\ndef g(): pass\nclass C: pass\nc = C()"
    )


def test_the_program_finds_no_module_that_only_its_end_needs(ours):
    """But for `atexit` and `gc`, which are built in."""
    program = "import _struct, sys; print(sorted({*sys.modules} - {*sys.builtin_module_names}))"
    assert ours.again("-c", program, flags=["--preload=_struct"]) == ours.stock("-c", program)


@pytest.mark.every_python
@pytest.mark.parametrize("name", PRELOADED)
def test_preloaded_module_of_the_user_ends_as_in_stock(ends, name):
    preload, program = PRELOADED[name]
    ends(program, preload=preload)


@pytest.mark.parametrize("preload", ["json", "logging", "logging typing", "asyncio unittest"])
@pytest.mark.parametrize("name", HELD)
def test_other_preloads_hold_as_in_stock(ends, name, preload):
    ends(HELD[name], preload=preload)


@pytest.mark.parametrize("name", OUTPUT_FAILS)
def test_broken_stdout(ends, name):
    with open("/dev/full", "w") as full:
        ends(OUTPUT_FAILS[name], stdout=full)


def _signal(argv, cwd, env, number):
    process = start(argv, env, cwd)
    assert process.stdout.readline() == b"ready\n"
    time.sleep(0.4)  # The program itself may still run when a thread of it prints.
    process.send_signal(number)
    code, out, err = finish(process)
    return (
        code,
        out,
        b"".join(x for x in err.splitlines(True) if not x.startswith(b"pylaunch: explain")),
        _files(cwd),
    )


@serial
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", SIGNALLED)
def test_signal_while_ending(lab, tmp_path, name, number):
    lab.need_pylaunch()
    runner = Runner(lab, "off", tmp_path, tmp_path)
    flags = [f"--preload={name}" for name in STDLIB.split()]
    outcomes = []
    for folder, launch in (
        ("stock", runner.launch(mode="stock")),
        ("fast", [*runner.launch(), *flags]),
    ):
        cwd = tmp_path / folder
        cwd.mkdir()
        (cwd / "p.py").write_text(SIGNALLED[name])
        code, out, err, files = _signal([*launch, "p.py"], cwd, runner.env(), number)
        outcomes.append(
            (code, out, re.sub(rb"0x[0-9a-f]+", b"0x", err.replace(bytes(cwd), b"<cwd>")), files)
        )
    assert outcomes[1] == outcomes[0]


def test_ignored_interrupt(ends):
    """As in the background of a shell script."""
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    assert FAST in ends("print('done')", **ignore)
    ends("f = open('f', 'w'); f.write('x')\nimport json\njson.f = f", **ignore)
    ends("import signal\nprint(signal.getsignal(signal.SIGINT))", **ignore)


def test_no_preload_needs_no_fast_exit(ends):
    assert ends("f = open('f', 'w'); f.write('x')", preload="") == ""


def test_twin_and_wrong_value(lab, tmp_path):
    lab.need_pylaunch()
    runner = Runner(lab, "off", tmp_path, tmp_path)
    flags = ["--explain", "--preload=json"]
    env = {"PYLAUNCH_EXIT": "full"}
    assert FAST in runner.again("-c", "pass", flags=flags).err, "it is the default"
    assert LINE not in runner.again("-c", "pass", flags=flags, env=env).err
    assert FAST in runner.again("-c", "pass", flags=[*flags, "--exit=fast"], env=env).err
    assert LINE not in runner.again("-c", "pass", flags=[*flags, "--exit=full"]).err
    assert FAST in runner.again("-I", "-c", "pass", flags=flags, env=env).err
    wrong = runner.again("-c", "pass", flags=["--exit=slow"])
    assert (wrong.code, wrong.out) == (2, "") and "--exit" in wrong.err


WITH_NUMPY = {
    "numpy.random, imported into numpy": "import numpy\nprint(numpy.random.rand().is_integer())",
    "array over a file": "import numpy, json\nnumpy.arange(4).tofile('f'); numpy.held = numpy.memmap('f', mode='r+'); numpy.held[0] = 7; numpy.held.flush()",
}


@pytest.mark.parametrize("name", WITH_NUMPY)
def test_with_numpy_preloaded(ends, name):
    if importlib.util.find_spec("numpy") is None:
        pytest.skip("numpy is not installed")
    told = ends(WITH_NUMPY[name], preload="numpy", python=Path(sys.executable), inline=True)
    assert FAST in told and "full teardown" not in told


TRANSFORMERS = "transformers transformers.models.bert.configuration_bert torch numpy"
WITH_TRANSFORMERS = {
    "nothing": "pass",
    "files": "f = open('f', 'w'); f.write('data')\nclass C: pass\nc = C(); c.c = c; c.f = open('g', 'w')",
    "del": D + "a = D('a'); a.a = a; b = D('b'); c = D('c')",
    "module": "import torch\nclass M(torch.nn.Module):\n    def __init__(self):\n        super().__init__(); self.w = torch.nn.Parameter(torch.ones(3))\n    def forward(self, x): return x * self.w\nm = M(); m(torch.ones(3)).sum().backward(); print(m.w.grad)",
    "config": "from transformers import BertConfig\nclass C(BertConfig): pass\nprint(C().hidden_size)\nf = open('f', 'w'); f.write('data')",
    "exit code": "import torch, sys; x = torch.ones(2); sys.exit(5)",
    "workers": "import torch.utils.data as d\nif __name__ == '__main__':\n    it = iter(d.DataLoader(range(8), batch_size=2, num_workers=1)); print(next(it))",
}


@pytest.mark.slow  # 7 s each.
@pytest.mark.parametrize("name", WITH_TRANSFORMERS)
def test_with_transformers_preloaded(ends, name):
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    told = ends(
        WITH_TRANSFORMERS[name],
        "-u",
        preload=TRANSFORMERS,
        python=Path(sys.executable),
        inline=True,
    )
    assert (FAST in told) or name == "workers"
