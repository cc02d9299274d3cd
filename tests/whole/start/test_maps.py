# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""What is ours stays invisible: a program's address space holds nothing that stock lacks but our own files."""

import re
import subprocess

import pytest

MAPS = (
    "import json, decimal, ctypes, sys\n"
    "print(json.dumps(sorted({line.split(None, 5)[5].strip() for line in open('/proc/self/maps')"
    " if len(line.split(None, 5)) > 5})))\n"
)


def files(result) -> set[str]:
    return {name for name in result.json if name.startswith("/")}


@pytest.mark.every_python
@pytest.mark.parametrize(
    "flags", [(), ("--preload", "import email.message")], ids=["plain", "preload"]
)
def test_only_our_own_files_are_mapped(run, flags):
    stock = files(run.stock("-c", f"{flags[1]}\n{MAPS}" if flags else MAPS))
    result = run("-c", MAPS, flags=flags)
    assert result.code == 0, result.err
    extra = files(result) - stock
    if run.mode == "stock":
        assert extra == set()
        return
    build = str(run.lab.pylaunch.parent)
    foreign = {
        name
        for name in extra
        if not (
            (name.startswith(build) and name.endswith(".so"))
            or name.endswith(".pla")
            or re.match(r"/memfd:pylaunch\S*", name)
        )
    }
    assert foreign == set()
    assert not [name for name in extra if re.search(r"libstdc\+\+|absl|zstd|libgcc", name)]
    # One engine, and the archive only where there is one.
    assert len([name for name in extra if name.endswith(".so")]) == 1
    assert bool([name for name in extra if name.endswith(".pla")]) == (run.mode == "warm")


def test_nothing_of_stock_is_missing(run):
    stock = files(run.stock("-c", MAPS))
    pycs = {name for name in stock if name.endswith(".pyc")}
    assert stock - files(run("-c", MAPS)) - pycs == set()


def test_no_symbol_of_ours_is_global(run):
    """A library that asks the dynamic loader for Abseil's or zstd's names must not find ours."""
    program = (
        "import ctypes\n"
        "me = ctypes.CDLL(None)\n"
        "names = ['ZSTD_decompress', 'ZSTD_compress', 'ZSTD_versionNumber', '_ZSt9terminatev', '__cxa_throw',"
        " '_Znwm', '_ZdlPv', 'XXH64', 'main', '__libc_start_main']\n"
        "print({n: hasattr(me, n) for n in names})\n"
    )
    result = run.same("-c", program)
    assert "'XXH64': False" in result.out
    if run.lab.version < (3, 14):  # Which has zstd of its own.
        assert "'ZSTD_compress': False" in result.out


def test_no_executable_and_writable_memory(run):
    program = "print([x.split()[1] for x in open('/proc/self/maps') if 'wx' in x.split()[1]])"
    assert run.same("-c", program).out == "[]\n"


def test_engine_loads_into_programs_without_python(lab):
    """A tool that starts Python (valgrind, for one) gets the engine too, and must not miss CPython's symbols."""
    lab.need_pylaunch()
    for engine in lab.pylaunch.parent.glob("engine-*.so"):
        done = subprocess.run(
            ["/bin/true"], env={"LD_PRELOAD": str(engine)}, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
