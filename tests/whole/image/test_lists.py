# ruff: noqa: E501 - programs in strings read better on long lines.
"""A list that vouches for a library does so for the versions that somebody has read, and for no other (docs/lists.md).

Each test makes a distribution of a listed name: in a listed version the list is believed, in another one, without a version or
with two of them it is not, and where it would have mattered --explain names the list that has to be read again.
"""

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Tree
from imaged import RACY, Imaged, reason, restored
from test_image_late import late, plan  # noqa: F401 - a fixture
from test_image_random import COPY
from test_image_shared import _in_container, needs_root

ROOT = Path(__file__).resolve().parents[3]
LISTS = ROOT / "launcher/python/resume"
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")

# What is installed beside the file: how many dist-infos, of which versions; None is one that is listed.
INSTALLED = {
    "a listed version": [None],
    "another version": ["9.9"],
    "no version": [],
    "two versions": [None, "9.9"],
    "another distribution": ["other"],
}
BELIEVED = "a listed version"


def versions(line: str, distribution: str) -> list[str]:
    found = re.search(rf"\s{re.escape(distribution)}==(\S+)", line)
    assert found, line
    return found[1].split(",")


def line_of(file: Path, name: str) -> str:
    return next(x for x in file.read_text().splitlines() if x.split()[:1] == [name])


def install(lib: Path, distribution: str, line: str, kind: str) -> None:
    for version in INSTALLED[kind]:
        name = f"{distribution}-{version or versions(line, distribution)[0]}"
        (lib / f"{name if version != 'other' else 'other-1'}.dist-info").mkdir(parents=True)


def told(result, file: str, distribution: str) -> list[str]:
    return re.findall(
        rf"{re.escape(file)} knows {distribution} .*, here is (\S+): it has to be read again; until then (.+)",
        result.err,
    )


ENDS = """
#include <stdlib.h>
#include <unistd.h>
static void ends(void) { write(1, "handler\\n", 8); }
void arm(void) { atexit(ends); }
#ifdef ENVIRON
extern char** environ;
int count(void) { return environ != 0; }
#endif
"""


def library(lib: Path, path: str, *flags) -> None:
    target = lib / path
    target.parent.mkdir(parents=True)
    (lib / "ends.c").write_text(ENDS)
    subprocess.run(["cc", "-shared", "-fPIC", *flags, "ends.c", "-o", target], cwd=lib, check=True)


@needs_cc
@pytest.mark.parametrize("kind", INSTALLED)
def test_handlers_of_a_quiet_library_are_left_out_in_a_listed_version(lab, tmp_path, kind):
    lab.need_pylaunch()
    lib, image = tmp_path / "lib", Imaged(lab, tmp_path / "image")
    library(lib, "torch/lib/libc10.so")
    install(lib, "torch", line_of(LISTS / "quiet_libraries.txt", "torch/lib/libc10"), kind)
    (lib / "early.py").write_text(f"import ctypes\nctypes.CDLL({str(lib / 'torch/lib/libc10.so')!r}).arm()\n")  # fmt: skip
    time.sleep(RACY)
    setup = {"preload": ["import early"], "env": {"PYTHONPATH": str(lib)}}
    made = image.make("-c", "pass", **setup)
    result = image("-c", "pass", **setup)
    assert restored(result), result.err
    assert result.out == ("" if kind == BELIEVED else "handler\n")
    lines = told(made, "quiet_libraries.txt", "torch")
    assert lines == ([("9.9", "all handlers run")] if kind == "another version" else [])


def environ_user(lab, tmp_path, name, suffix, kind):
    """Of an image with a library that uses environ: itself, how it is started with one more variable, what its maker said."""
    lab.need_pylaunch()
    lib, image = tmp_path / "lib", Imaged(lab, tmp_path / "image")
    library(lib, name + suffix, "-DENVIRON")
    install(lib, name.partition("/")[0], line_of(LISTS / "environ_libraries.txt", name), kind)
    (lib / "early.py").write_text(f"import ctypes\nctypes.CDLL({str(lib / (name + suffix))!r})\n")
    time.sleep(RACY)
    setup = {"preload": ["import early"], "env": {"PYTHONPATH": str(lib)}}
    made = image.make("-c", "pass", **setup)
    setup["env"]["NOBODY_ASKED_FOR"] = "this"
    return image, setup, made


@needs_cc
@pytest.mark.parametrize("kind", INSTALLED)
def test_a_library_that_uses_environ_reads_nothing_of_it_in_a_listed_version(lab, tmp_path, kind):
    image, setup, made = environ_user(lab, tmp_path, "torch/lib/libtorch_cpu", ".so", kind)
    assert restored(image("-c", "pass", **setup)) == (kind == BELIEVED)
    lines = told(made, "environ_libraries.txt", "torch")
    assert lines == ([("9.9", "all variables count as read")] if kind == "another version" else [])


@needs_cc
def test_a_library_that_uses_environ_for_variables_of_its_own(lab, tmp_path):
    image, setup, _ = environ_user(lab, tmp_path, "pyarrow/libarrow", ".so.1", BELIEVED)
    assert restored(image("-c", "pass", **setup))
    for name in ("MIMALLOC_VERBOSE", "mimalloc_show_errors"):
        got = image("-c", "pass", **{**setup, "env": {**setup["env"], name: "1"}})
        assert not restored(got) and reason(got).endswith(f"variable {name} is new")


@pytest.mark.parametrize("kind", INSTALLED)
def test_a_hook_renews_the_versions_that_it_was_written_for(plan, kind):  # noqa: F811
    program = (
        "import multiprocess.process as p; print(p.current_process()._config['authkey'].hex())"
    )
    files = {"multiprocess/__init__.py": "", "multiprocess/process.py": COPY}
    start = plan(files, ["import early", "import multiprocess.process"], program)
    first_line = (LISTS / "hooks/multiprocess.process.py").read_text().splitlines()[0]
    install(start.lib, "multiprocess", first_line, kind)
    first = start()
    runs = [*start.settle(), start(), start()]
    words = {} if kind == BELIEVED else {"--preload:1:1: 'import multiprocess.process'": "drew random numbers: multiprocess.process"}  # fmt: skip
    assert restored(runs[-1]) and late(runs[-1]) == words
    assert len({run.out for run in runs[-2:]}) == 2
    lines = told(first, "hooks/multiprocess.process.py", "multiprocess")
    assert lines == ([("9.9", "multiprocess.process counts as having drawn random numbers")] if kind == "another version" else [])  # fmt: skip


def test_a_hook_s_module_is_late_though_nobody_saw_it_draw(plan):  # noqa: F811
    """C code's generators (torch's) are seeded where nobody sees it; who does not know them cannot renew them."""
    files = {"torch/__init__.py": "import os\nvalue = os.getpid()\n"}
    start = plan(files, ["import early", "import torch"], "pass")
    (start.lib / "torch-9.9.dist-info").mkdir()
    start.settle()
    assert late(start()) == {"--preload:1:1: 'import torch'": "drew random numbers: torch"}


def test_nothing_renews_what_site_imported_in_another_version(plan):  # noqa: F811
    """Nobody watches while site runs, with nothing to preload."""
    files = {"torch/__init__.py": "value = 1\n", "sitecustomize.py": "import torch\n"}
    start = plan(files, [], "pass")
    (start.lib / "torch-9.9.dist-info").mkdir()
    runs = [start(), start(), start()]
    assert not any(map(restored, runs)) and not start.image.images()
    assert "torch.py renews another version" in reason(runs[-1])


@pytest.mark.parametrize("kind", INSTALLED)
def test_who_draws_for_a_known_purpose_does_so_in_a_listed_version(plan, kind):  # noqa: F811
    module = "dask.dataframe.io.sql"
    package = "import uuid\nvalue = uuid.uuid4().hex\n"
    files = {"dask/__init__.py": "", "dask/dataframe/__init__.py": "", "dask/dataframe/io/__init__.py": "", "dask/dataframe/io/sql.py": package}  # fmt: skip
    start = plan(files, ["import early", f"import {module}"], f"import {module}")
    install(start.lib, "dask", line_of(LISTS / "known_draws.txt", module), kind)
    first = start()
    start.settle()
    words = {} if kind == BELIEVED else {f"--preload:1:1: 'import {module}'": f"drew random numbers: {module}"}  # fmt: skip
    assert late(start()) == words
    lines = told(first, "known_draws.txt", "dask")
    assert lines == ([("9.9", "it is imported late")] if kind == "another version" else [])


@pytest.mark.parametrize("kind", [BELIEVED, "another version", "no version"])
def test_who_draws_for_others_does_so_in_a_listed_version(plan, kind):  # noqa: F811
    files = {"toolz/__init__.py": "", "toolz/functoolz.py": "import uuid\ndef name(): return uuid.uuid4().hex\n", "drawer.py": "import toolz.functoolz\nvalue = toolz.functoolz.name()\n"}  # fmt: skip
    start = plan(
        files, ["import early", "import toolz.functoolz", "import drawer"], "import drawer"
    )
    install(start.lib, "toolz", line_of(LISTS / "random_helpers.txt", "toolz.functoolz"), kind)
    start.settle()
    who = "drawer" if kind == BELIEVED else "toolz.functoolz"
    assert late(start()) == {"--preload:1:1: 'import drawer'": f"drew random numbers: {who}"}


TYPE = """
#include <Python.h>
#include <unistd.h>
typedef struct { PyObject_HEAD PyObject* held; } Row;
static int traverse(PyObject* self, visitproc visit, void* arg) { Py_VISIT(((Row*)self)->held); return 0; }
static void dealloc(PyObject* self) { PyObject_GC_UnTrack(self); write(1, "freed\\n", 6); PyObject_GC_Del(self); }
static PyTypeObject type = {PyVarObject_HEAD_INIT(0, 0).tp_name = "Row", .tp_basicsize = sizeof(Row), .tp_dealloc = dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, .tp_traverse = traverse, .tp_new = PyType_GenericNew};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_immutabledict_cy", .m_size = -1};
PyMODINIT_FUNC PyInit__immutabledict_cy(void) {
  PyObject* module = PyModule_Create(&definition);
  if (PyType_Ready(&type) == 0) PyModule_AddObjectRef(module, "Row", (PyObject*)&type);
  return module;
}
"""


@needs_cc
@pytest.mark.parametrize("kind", [BELIEVED, "another version", "no version"])
@pytest.mark.parametrize("by", ["preload", "program"])
@pytest.mark.parametrize("mode", ["image", "fast"])
def test_objects_of_a_quiet_type_are_left_alive_in_a_listed_version(lab, tmp_path, kind, by, mode):
    lab.need_pylaunch()
    lib, image = tmp_path / "lib", Imaged(lab, tmp_path / "image")
    include = image.stock(
        "-c", "import sysconfig; print(sysconfig.get_paths()['include'])"
    ).out.strip()
    if not Path(include, "Python.h").exists():
        pytest.skip("no Python.h")
    Tree(lib).write({"sqlalchemy/__init__.py": "", "sqlalchemy/util/__init__.py": ""})
    (lib / "type.c").write_text(TYPE)
    name = "sqlalchemy/util/_immutabledict_cy"
    subprocess.run(["cc", "-shared", "-fPIC", f"-I{include}", "type.c", "-o", f"{name}.so"], cwd=lib, check=True)  # fmt: skip
    install(lib, "sqlalchemy", line_of(LISTS / "quiet_types.txt", name), kind)
    module = name.replace("/", ".")
    time.sleep(RACY)
    program = f"import logging, {module} as m; logging.Formatter.held = m.Row()"
    setup = {"preload": ["import logging", *([f"import {module}"] if by == "preload" else [])], "env": {"PYTHONPATH": str(lib)}}  # fmt: skip
    options = ["--exit=fast"] if mode == "fast" else []
    if mode == "fast":
        image.cache = image.folder / "no-image"
        setup["env"]["PYLAUNCH_IMAGE"] = "0"
        argv = [
            x
            for x in image.argv(*options, "-c", program, preload=setup["preload"])
            if x != "--image"
        ]
        done = subprocess.run(argv, env=image.env(setup["env"]), cwd=image.cwd, capture_output=True, text=True, timeout=60)  # fmt: skip
        out, err = done.stdout, done.stderr
    else:
        image.make("-c", "pass", **setup)
        result = image("-c", program, **setup)
        assert restored(result), result.err
        out, err = result.out, result.err
    assert out == ("" if kind == BELIEVED else "freed\n"), err
    known = "quiet_types.txt knows sqlalchemy" in err
    assert known == (kind == "another version"), err


@needs_root
@pytest.mark.parametrize("kind", [BELIEVED, "another version", "no version"])
def test_who_makes_nothing_of_the_host_name_does_so_in_a_listed_version(image, tmp_path, kind):
    file = ROOT / "launcher/engine/record/host_name_ignorers.txt"
    name = "setuptools._distutils.util:get_host_platform"
    asks = "import os\ndef get_host_platform(): return os.uname()\n"
    files = {"setuptools/__init__.py": "", "setuptools/_distutils/__init__.py": "", "setuptools/_distutils/util.py": asks, "early.py": "import setuptools._distutils.util as u\nu.get_host_platform()\n"}  # fmt: skip
    lib = Tree(tmp_path / "lib").write(files)
    install(lib, "setuptools", line_of(file, name), kind)
    time.sleep(RACY)
    setup = {"preload": ["import early"], "env": {"PYTHONPATH": str(lib)}}
    made = image.make("-c", "pass", wrap=_in_container("a"), **setup)
    other = image("-c", "pass", wrap=_in_container("container-b"), **setup)
    assert restored(other) == (kind == BELIEVED), other.err
    lines = told(made, "host_name_ignorers.txt", "setuptools")
    assert lines == (
        [("9.9", "an image is for one host name")] if kind == "another version" else []
    )


@pytest.mark.parametrize("file", sorted(LISTS.glob("*.txt")), ids=lambda x: x.name)
def test_every_line_of_a_list_names_what_it_vouches_for(file):
    if file.name == "plugin_folders.txt":  # Its lines make nobody trust anything.
        return
    lines = [x.partition("#")[0].split() for x in file.read_text().splitlines()]
    lines = [x for x in lines if x and x[0] != "otherwise"]
    # What a library reads, and which of its types are meant, is no proof.
    lines = [[word for word in x if not word.startswith(("reads:", "types:"))] for x in lines]
    assert lines and all(proof and all(re.fullmatch(r"[\w.-]+==[\w.+!]+(,[\w.+!]+)*", p) for p in proof) for _, *proof in lines), lines  # fmt: skip
