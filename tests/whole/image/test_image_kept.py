# ruff: noqa: E501 - programs in strings read better on long lines.
"""What CPython's end lets go of piece by piece, and a process restored from an image keeps, where nobody may notice.

launcher/engine: finalizers (weakref.finalize's choice of what is called at exit), module_index (modules by their definitions),
own_tables; exit_handlers: OpenSSL's end.
"""

import shutil
import subprocess
import time

import pytest
from imaged import PYTHON, RACY, restored

EARLY = """
import weakref
class Thing: pass
def told(name): print('finalized', name, flush=True)
def fails(): raise ValueError('on purpose')
things = {}
finalizers = {}
for name, atexit in [('a', True), ('b', False), ('c', True), ('d', False), ('e', True)]:
    things[name] = Thing()
    finalizers[name] = weakref.finalize(things[name], told, name)
    finalizers[name].atexit = atexit
"""

SINGLE = r"""
#include <Python.h>
#include <unistd.h>

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "single", NULL, 8, NULL, NULL, NULL, NULL, NULL};
static void end(PyObject* self) {
  const char* text = PyState_FindModule(&definition) != NULL ? "found\n" : "not found\n";
  if (write(1, text, strlen(text)) < 0) return;
  PyObject_Free(self);
}
static PyTypeObject type = {PyVarObject_HEAD_INIT(NULL, 0) "single.Object", sizeof(PyObject), 0, end};
PyMODINIT_FUNC PyInit_single(void) {
  type.tp_flags = Py_TPFLAGS_DEFAULT;
  type.tp_new = PyType_GenericNew;
  PyObject* module = PyModule_Create(&definition);
  if (module == NULL || PyType_Ready(&type) < 0) return NULL;
  Py_INCREF(&type);
  PyModule_AddObject(module, "Object", (PyObject*)&type);
  return module;
}
"""

DEL = "import early, os\nclass D:\n    def __init__(self, name): self.name = name\n    def __del__(self, write=os.write): write(1, b'del ' + self.name + b'\\n')\n"

PROGRAMS = {
    "as preloaded": "import early",
    "marked later": "import early; early.finalizers['b'].atexit = True; early.finalizers['a'].atexit = False",
    "called before": "import early; early.finalizers['c'](); del early.things['e']",
    "detached": "import early; print(early.finalizers['c'].detach() is not None, early.finalizers['a'].alive)",
    "the program's own": "import early, weakref; x = early.Thing(); f = weakref.finalize(x, early.told, 'own'); g = weakref.finalize(x, early.told, 'not'); g.atexit = False",
    "made by a finalizer": "import early, weakref; x = early.Thing(); f = weakref.finalize(x, lambda: weakref.finalize(early.things['b'], early.told, 'made last'))",
    "that fails": "import early, weakref; x = early.Thing(); f = weakref.finalize(x, early.fails)",
    "an odd registry": "import early, weakref; weakref.finalize._registry['x'] = 1",
    "names of sys": DEL
    + "import sys; sys.mine = D(b'sys'); sys.path_importer_cache['/nowhere'] = D(b'cache'); sys.path_hooks.append(D(b'hook')); sys.meta_path.append(D(b'finder'))",
    "names of builtins": DEL
    + "import builtins; builtins.mine = D(b'builtins'); builtins.credits = D(b'credits')",
    "single-phase extension": "import early, single, builtins, sys; builtins.mine = single.Object(); sys.mine = single.Object(); own = single.Object()",
}


@pytest.fixture(scope="module")
def made(lab, tmp_path_factory):
    from imaged import Imaged

    lab.need_pylaunch()
    folder = tmp_path_factory.mktemp("kept")
    lib = folder / "lib"
    lib.mkdir()
    (lib / "early.py").write_text(EARLY)
    entries = ["import early, concurrent.futures, logging, json, sqlite3, ssl, decimal, ctypes"]
    include = subprocess.check_output(
        [PYTHON, "-c", "import sysconfig; print(sysconfig.get_path('include'))"], text=True
    ).strip()
    if shutil.which("cc") is not None:
        (lib / "single.c").write_text(SINGLE)
        command = ["cc", "-shared", "-fPIC", f"-I{include}", "single.c", "-o", "single.so"]
        subprocess.run(command, cwd=lib, check=True)
        entries.append("import single")
    image = Imaged(lab, folder)
    image.library = {"PYTHONPATH": str(lib)}
    image.entries = entries
    time.sleep(RACY)
    image.make("-c", "pass", preload=entries, env=image.library)
    return image


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_kept_is_not_missed(made, name):
    if name == "single-phase extension" and len(made.entries) == 1:
        pytest.skip("no C compiler")
    program = ["-c", PROGRAMS[name]]
    stock = made.stock(*program, env=made.library)
    result = made(*program, preload=made.entries, env=made.library)
    assert restored(result), result.err
    assert (result.code, result.out) == (stock.code, stock.out)
    assert result.without_pylaunch_lines().err.splitlines()[-1:] == stock.err.splitlines()[-1:]


# A provider of OpenSSL's, which only OPENSSL_cleanup() ends: OSSL_provider_init and OSSL_DISPATCH (openssl-core.h(7)).
PROVIDER = r"""
#include <unistd.h>
struct dispatch { int id; void (*function)(void); };
static void teardown(void) { if (write(1, "torn down\n", 10) < 0) _exit(1); }
static const struct dispatch functions[] = {{1024, teardown}, {0, 0}};
int OSSL_provider_init(const void* core, const struct dispatch* in, const struct dispatch** out, void** context) {
  *out = functions;
  *context = (void*)core;
  return 1;
}
"""
CONFIG = "openssl_conf = init\n[init]\nproviders = providers\n[providers]\ndefault = usual\nmine = ours\n[usual]\nactivate = 1\n[ours]\nactivate = 1\n"


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize("preload", ["import ssl, hashlib", "import json"])
def test_a_provider_of_openssls_is_ended(image, tmp_path, preload):
    folder = tmp_path / "ossl-modules"
    folder.mkdir()
    (folder / "mine.c").write_text(PROVIDER)
    command = ["cc", "-shared", "-fPIC", "mine.c", "-o", "mine.so"]
    subprocess.run(command, cwd=folder, check=True)
    (tmp_path / "openssl.cnf").write_text(CONFIG)
    env = {"OPENSSL_MODULES": str(folder), "OPENSSL_CONF": str(tmp_path / "openssl.cnf")}
    stock = image.stock("-c", "import ssl; ssl.create_default_context()", env=env)
    if not stock.out:
        pytest.skip("this Python's OpenSSL knows no providers")
    time.sleep(RACY)
    image.make("-c", "pass", preload=[preload], env=env)
    result = image("-c", "import ssl; ssl.create_default_context()", preload=[preload], env=env)
    assert restored(result), result.err
    assert (result.code, result.out) == (stock.code, stock.out) == (0, "torn down\n")


def test_the_programs_say_something(made):
    """Else there would be nothing to compare."""
    said = {name: made.stock("-c", PROGRAMS[name], env=made.library).out for name in PROGRAMS}
    assert [x[-1] for x in said["as preloaded"].splitlines()] == ["e", "c", "a"]
    assert [x[-1] for x in said["marked later"].splitlines()] == ["e", "c", "b"]
    assert "del cache" in said["names of sys"] and "del builtins" in said["names of builtins"]
