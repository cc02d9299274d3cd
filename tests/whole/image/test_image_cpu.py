# ruff: noqa: E501 - programs in strings read better on long lines.
"""--image-build --cpu: what libraries find out about the processor while preloading is what all processors of the level have."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Tree, clean_environment
from imaged import RACY, has, reason, restored

pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler"),
    pytest.mark.skipif(
        not {"avx2", "fma", "bmi2", "abm", "movbe"}
        <= set(Path("/proc/cpuinfo").read_text().split()),
        reason="a processor below x86-64-v3",
    ),
]

# What a library asks when it is loaded, by a resolver and a constructor, and whenever it is called.
# Constants whose bytes are those of both instructions stand in its code.
LIBRARY = """
#include <cpuid.h>
typedef unsigned u;
__attribute__((noinline)) static u state(void) { u a, d; __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0)); return a; }
__attribute__((noinline)) static u leaf7(void) { u a, b, c, d; __cpuid_count(7, 0, a, b, c, d); return b; }
static int one(void) { return 512; }
static int other(void) { return 256; }
static int (*choose(void))(void) { u a, d; __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0)); return a & 0xe0 ? one : other; }
int chosen(void) __attribute__((ifunc("choose")));
static u state_then, leaf7_then;
__attribute__((constructor)) static void ask(void) { state_then = state(); leaf7_then = leaf7(); }
u then(int which) { return which ? leaf7_then : state_then; }
u now(int which) { return which ? leaf7() : state(); }
u constant(int which) { u x; if (which) __asm__ volatile("movl $0x00d0010f, %0" : "=r"(x)); else __asm__ volatile("movl $0x0000a20f, %0" : "=r"(x)); return x; }
"""
MODULE = """
import ctypes, os
lib = ctypes.CDLL(os.path.join(os.path.dirname(__file__), "libasking.so"))
then = lib.then(0), lib.then(1)
seen = lib.now(0), lib.now(1), lib.chosen(), hex(lib.constant(0)), hex(lib.constant(1)), os.environ.get("GLIBC_TUNABLES")
"""
SHOW = """
import asking, os, signal
lib = asking.lib
print((lib.then(0), lib.then(1)), asking.seen, (lib.now(0), lib.now(1), lib.chosen(), hex(lib.constant(0)), hex(lib.constant(1))), sep=", ")
print(os.environ.get("GLIBC_TUNABLES"), signal.getsignal(signal.SIGTRAP))
"""
AVX512 = 1 << 16 | 1 << 17 | 1 << 28 | 1 << 30 | 1 << 31
ADX = 1 << 19


def build(image, *options, program=SHOW, preload=(), env=None):
    argv = image.argv(
        "--image-build", *options, "-c", program, preload=list(preload), explain=False
    )
    argv.remove("--image")
    done = subprocess.run(
        argv, env=clean_environment(image.lab.home, **(env or {})), cwd=image.cwd, capture_output=True, text=True
    )  # fmt: skip
    return done


@pytest.fixture
def asking(image):
    lib = Tree(image.folder / "lib").write({"asking.c": LIBRARY, "asking.py": MODULE})
    command = ["cc", "-O2", "-shared", "-fPIC", "asking.c", "-o", "libasking.so"]
    subprocess.run(command, cwd=str(lib), check=True)
    time.sleep(RACY)
    image.setup = {"preload": ["import asking"], "env": {"PYTHONPATH": str(lib)}}
    return image


@pytest.mark.every_python
def test_libraries_are_told_of_the_level_and_then_of_the_processor(asking):
    stock = asking.stock("-c", SHOW, env=asking.setup["env"])
    own = eval(stock.out.splitlines()[0])
    done = build(asking, "--cpu=x86-64-v3", **asking.setup)
    assert done.returncode == 0, done.stderr
    got = asking("-c", SHOW, **asking.setup)
    assert restored(got), got.err
    first, second = got.out.splitlines()
    then, seen, now = eval(first)
    assert then[0] == 7 and then[1] & (AVX512 | ADX) == 0 and then[1] & 0x128 == 0x128
    assert seen[:2] == then and seen[2] == 256
    assert seen[3:] == ("0xa20f", "0xd0010f", None)
    # The function that its resolver chose stays.
    assert now == (*own[2][:2], 256, "0xa20f", "0xd0010f")
    assert second == "None 0"


def test_variables_of_the_user_stay(asking):
    asking.setup["env"]["GLIBC_TUNABLES"] = "glibc.malloc.check=0"
    done = build(asking, "--cpu=x86-64-v3", **asking.setup)
    assert done.returncode == 0, done.stderr
    got = asking("-c", SHOW, **asking.setup)
    assert restored(got), got.err
    assert eval(got.out.splitlines()[0])[1][-1] == "glibc.malloc.check=0"
    assert got.out.splitlines()[1] == "glibc.malloc.check=0 0"


@pytest.mark.parametrize("level", ["x86-64-v2", "x86-64-v3"])
@pytest.mark.skipif(not has("numpy"), reason="needs numpy")
def test_numpy_multiplies_as_on_such_a_processor(image, level):
    program = """
import numpy
found = numpy._core._multiarray_umath.__cpu_features__
a = numpy.arange(90000.0).reshape(300, 300) % 7
print(found["AVX2"], found["AVX512F"], numpy.array_equal(a @ a, numpy.einsum("ij,jk", a, a)))
"""
    done = build(image, f"--cpu={level}", program=program, preload=["import numpy"])
    assert done.returncode == 0, done.stderr
    got = image("-c", program, preload=["import numpy"])
    assert restored(got), got.err
    assert got.out == f"{level > 'x86-64-v2'} False True\n"


def test_another_level_is_another_image(asking):
    for level in ("x86-64-v2", "x86-64-v3"):
        done = build(asking, f"--cpu={level}", **asking.setup)
        assert done.returncode == 0 and ": made in " in done.stdout, (done.stdout, done.stderr)
        again = build(asking, f"--cpu={level}", **asking.setup)
        assert again.stdout.endswith(": already there\n"), again.stdout
    assert len(asking.images()) == 2


# By hand, without the tables that tell where functions are; what stands before is nothing that sets ECX.
UNCLEAR = """
.text
.globl unclear
unclear:
  movq %rdi, %rcx
  nop
  .byte 0x0f, 0x01, 0xd0
  ret
"""


def test_what_cannot_be_told_apart_forbids_it_and_is_named(asking):
    lib = asking.folder / "lib"
    (lib / "unclear.s").write_text(UNCLEAR)
    command = ["cc", "-shared", "unclear.s", "-o", "libasking.so", "asking.c", "-fPIC", "-O2"]
    subprocess.run(command, cwd=str(lib), check=True)
    time.sleep(RACY)
    done = build(asking, "--cpu=x86-64-v3", **asking.setup)
    assert done.returncode == 1
    assert f"it would be for this processor alone: {lib}/libasking.so may ask what" in done.stderr
    assert build(asking, **asking.setup).returncode == 0
    assert restored(asking("-c", SHOW, **asking.setup))


def test_a_handler_of_sigtrap_forbids_it(image):
    lib = Tree(image.folder / "lib").write(
        {"traps.py": "import signal\nsignal.signal(signal.SIGTRAP, lambda *_: None)\n"}
    )
    time.sleep(RACY)
    setup = {"preload": ["import traps"], "env": {"PYTHONPATH": str(lib)}}
    done = build(image, "--cpu=x86-64-v3", **setup)
    assert done.returncode == 1 and "preloading has set what SIGTRAP does" in done.stderr
    got = image("-c", "print(1)", **setup)
    assert not restored(got) and reason(got).startswith("none"), got.err
