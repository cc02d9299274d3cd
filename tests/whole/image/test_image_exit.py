# ruff: noqa: E501 - programs in strings read better on long lines.
"""What the C library and the dynamic loader do at the end of a process, when the process is restored from an image.

A restored process goes through exit handlers itself (launcher/engine/exit/exit_handlers); nobody may be able to tell.
"""

import shutil
import subprocess
import time
from pathlib import Path

import pytest
from imaged import RACY, restored

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")

LIBRARY = """
#define _DEFAULT_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void say(const char* text) { write(1, text, strlen(text)); }
static void first(void) { say(NAME " atexit, registered first\\n"); }
static void added(void) { say(NAME " atexit, registered by a handler\\n"); }
static void second(void) { say(NAME " atexit, registered second\\n"); atexit(added); }
static void quits(void) { say(NAME " exits in a handler\\n"); exit(9); }
void status(int code, void* unused) { say(code == 7 ? NAME " on_exit 7\\n" : NAME " on_exit\\n"); }
static FILE* file;

void arm(void) { atexit(first); atexit(second); }
void arm_exit(void) { atexit(first); atexit(quits); atexit(second); }
void arm_status(void) { on_exit(status, NULL); }
void leave_open(const char* path) { file = fopen(path, "w"); fputs("not flushed", file); }
int one_byte(void) { return getchar(); }
void quit_now(void) { say(NAME " exits\\n"); exit(3); }
#ifdef DESTRUCTOR
__attribute__((destructor)) static void end(void) { say(NAME " destructor\\n"); }
#endif
#ifdef FLAGGED
static char opened;
__attribute__((constructor)) void open_now(void) { opened = 1; }
__attribute__((destructor)) static void end(void) { if (!opened) return; say(NAME " destructor\\n"); }
#endif
"""

MODULE = "import ctypes, os\nlib = ctypes.CDLL(os.path.join(os.path.dirname(__file__), {name!r}), {mode})\nlib.arm()\n"

# `early` was loaded when the image was made, `late` is loaded by the program.
LATE = "import ctypes, os, sys, early\nlate = ctypes.CDLL(os.path.join(os.path.dirname(early.__file__), 'liblate.so'))\n"
PROGRAMS = {
    "nothing": "import early",
    "exit code": "import sys, early; sys.exit(7)",
    "late library": LATE + "late.arm()",
    "early and late": LATE + "late.arm(); early.lib.arm()",
    "late library that binds deeply": LATE.replace("so')", "so'), os.RTLD_NOW | os.RTLD_DEEPBIND")
    + "late.arm()",
    "handler exits": "import early; early.lib.arm_exit()",
    "late library's handler exits": LATE + "late.arm_exit()",
    "on_exit of the C library's own": "import ctypes, early; ctypes.CDLL('libc.so.6').on_exit(ctypes.cast(early.lib.status, ctypes.c_void_p), None)",
    "on_exit": "import sys, early; early.lib.arm_status(); early.lib.arm(); sys.exit(7)",
    "open FILE": "import early; early.lib.leave_open(b'left'); import os; print(os.path.getsize('left'), flush=True)",
    "C's own exit": "import early; early.lib.quit_now()",
    "unloaded": LATE + "import _ctypes; _ctypes.dlclose(late._handle)",
    "fork": "import os, early\nif os.fork() == 0: early.lib.arm(); raise SystemExit\nos.wait()",
    "thread": "import threading, time, early; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
}


def build(folder, name, *flags):
    (folder / "lib.c").write_text(LIBRARY)
    command = ["cc", "-shared", "-fPIC", f'-DNAME="{name}"', *flags, "lib.c", "-o", f"lib{name}.so"]
    subprocess.run(command, cwd=folder, check=True)


# Of the libraries: what they are compiled with, and how the first one is loaded.
MADE = {
    "destructors": (["-O2", "-DDESTRUCTOR"], "os.RTLD_NOW"),
    "destructors that ask a flag": (["-O2", "-DFLAGGED"], "os.RTLD_NOW"),
    "no destructors": (["-O2"], "os.RTLD_NOW"),
    "bound deeply": (["-O2"], "os.RTLD_NOW | os.RTLD_DEEPBIND"),
}


@pytest.fixture(scope="module", params=MADE)
def made(request, lab, tmp_path_factory):
    from imaged import Imaged

    lab.need_pylaunch()
    folder = tmp_path_factory.mktemp("exit")
    lib = folder / "lib"
    lib.mkdir()
    flags, mode = MADE[request.param]
    build(lib, "early", *flags)
    build(lib, "late", *flags)
    (lib / "early.py").write_text(MODULE.format(name="libearly.so", mode=mode))
    image = Imaged(lab, folder)
    image.library = {"PYTHONPATH": str(lib)}
    time.sleep(RACY)
    image.make("-c", "pass", preload=["import early"], env=image.library)
    return image


@pytest.mark.parametrize("name", PROGRAMS)
def test_handlers_and_destructors_run_as_in_stock(made, name):
    program = ["-c", PROGRAMS[name]]
    stock = made.stock(*program, env=made.library)
    left = made.cwd / "left"
    wanted = left.read_text() if left.exists() else None
    left.unlink(missing_ok=True)
    result = made(*program, preload=["import early"], env=made.library)
    assert restored(result), result.err
    assert (result.code, result.out) == (stock.code, stock.out)
    assert "atexit, registered first" in stock.out
    assert (left.read_text() if left.exists() else None) == wanted
    left.unlink(missing_ok=True)


EXTENSION = """
#include <Python.h>
#include <unistd.h>
typedef struct { PyObject_HEAD PyObject* held; } Writer;
static int traverse(PyObject* self, visitproc visit, void* arg) { Py_VISIT(((Writer*)self)->held); return 0; }
static void dealloc(PyObject* self) { PyObject_GC_UnTrack(self); write(1, "closed\\n", 7); PyObject_GC_Del(self); }
static PyTypeObject type = {PyVarObject_HEAD_INIT(0, 0).tp_name = "Writer", .tp_basicsize = sizeof(Writer), .tp_dealloc = dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, .tp_traverse = traverse, .tp_new = PyType_GenericNew};
static void end(void* module) { write(1, "freed\\n", 6); }
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_csv", .m_size = -1, .m_free = end};
PyMODINIT_FUNC PyInit__csv(void) {
  PyObject* module = PyModule_Create(&definition);
  if (PyType_Ready(&type) == 0) PyModule_AddObjectRef(module, "Writer", (PyObject*)&type);
  return module;
}
"""


@pytest.mark.parametrize("held", ["own._csv.Writer()", "own._csv"])
def test_extension_named_as_one_of_cpythons(image, tmp_path, held):
    tell = "import sysconfig; print(sysconfig.get_paths()['include'])"
    include = image.stock("-c", tell).out.strip()
    if not Path(include, "Python.h").exists():
        pytest.skip("no Python.h")
    own = tmp_path / "own"
    own.mkdir()
    (own / "_csv.c").write_text(EXTENSION)
    command = ["cc", "-shared", "-fPIC", f"-I{include}", "_csv.c", "-o", "_csv.so"]
    subprocess.run(command, cwd=own, check=True)
    program = f"import own._csv, sys, logging; logging.Formatter.held = {held}; sys.modules.clear()"
    env = {"PYTHONPATH": str(tmp_path)}
    image.make("-c", "pass", preload=["import logging"], env=env)
    result = image("-c", program, preload=["import logging"], env=env)
    stock = image.stock("-c", f"import logging; {program}", env=env)
    assert restored(result), result.err
    assert (result.code, result.out) == (stock.code, stock.out)
    assert stock.out


def test_file_in_the_place_of_one_that_is_gone(image, tmp_path):
    (tmp_path / "gone.py").write_text("import os\nlog = open(os.devnull, 'w'); log.close()\n")
    program = "import gone, json.encoder\ngone.log = None\nf = open('f', 'w'); f.write('data'); json.encoder.ESCAPE_DCT['f'] = f; del f"
    env = {"PYTHONPATH": str(tmp_path)}
    time.sleep(RACY)
    image.make("-c", "pass", preload=["import gone, json.encoder"], env=env)
    assert restored(image("-c", program, preload=["import gone, json.encoder"], env=env))
    assert (image.cwd / "f").read_text() == "data"


def test_input_that_was_read_ahead_is_given_back(made, tmp_path):
    (tmp_path / "input").write_text("abcdef")
    program = "import early; print(chr(early.lib.one_byte()), flush=True)"
    ends = []
    for run, extra in ((made.stock, {}), (made, {"preload": ["import early"]})):
        with open(tmp_path / "input", "rb", buffering=0) as source:
            result = run("-c", program, env=made.library, stdin=source, **extra)
            ends.append((result.code, result.out, source.read()))
    assert ends[0] == ends[1]
    assert ends[0][2] == b"bcdef"


@pytest.mark.parametrize(
    "program", ["pass", "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL)"]
)
@pytest.mark.parametrize("ignored", [False, True])
def test_a_job_in_the_background_ends_fast_too(image, program, ignored):
    """A shell that is no terminal's ignores SIGINT in what it starts with `&`."""
    wrap = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"] if ignored else []
    image.make("-c", "pass", preload=["import json"], wrap=wrap)
    result = image("-c", program, preload=["import json"], wrap=wrap)
    assert restored(result) and "exit: fast" in result.err
    assert (result.code, result.out) == (0, "")
    # The signals that a child is given are the program's own.
    tells = "import atexit, signal, subprocess, sys; atexit.register(lambda: subprocess.run([sys.executable, '-c', 'import signal; print([signal.getsignal(n) for n in (2, 34, 63, 64)])']))"
    assert (
        image("-c", tells, preload=["import json"], wrap=wrap).out
        == image.stock("-c", tells, wrap=wrap).out
    )
