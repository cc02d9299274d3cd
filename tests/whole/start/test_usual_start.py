"""The start without the C library (launcher/usual_start.cc) does what the long way does.

A probe stands where Python should, and prints what it was handed. Every case runs twice: as it is,
and with a variable of pylaunch's that changes nothing but that the long way is taken.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import ROOT

LONG_WAY = "PYLAUNCH_EXPLAIN"
NAMESPACE = [shutil.which("unshare"), "--pid", "--fork", "--mount-proc", "--kill-child"]


@dataclass
class Prefix:
    """An installation with a probe for its Python."""

    path: Path

    @property
    def pylaunch(self) -> Path:
        return self.path / "bin/pylaunch"

    def add_python(self, prefix: Path | None = None, name: str = "python3.11") -> Path:
        folder = (prefix or self.path) / "bin"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "build/tests/programs/handoff_probe", folder / name)
        for link in ("python", "python3"):
            (folder / link).unlink(missing_ok=True)
            (folder / link).symlink_to(name)
        return folder / name

    def configure(self) -> None:
        (self.path / "pyvenv.cfg").write_text("home = /nowhere\n")


@pytest.fixture
def prefix(tmp_path) -> Prefix:
    return make_prefix(tmp_path / "prefix")


def make_prefix(path: Path) -> Prefix:
    made = Prefix(path)
    library = path / "libexec/pylaunch"
    made.pylaunch.parent.mkdir(parents=True)
    library.mkdir(parents=True)
    shutil.copy(ROOT / "build/pylaunch", made.pylaunch)
    (library / "engine-cpython-3.11.so").symlink_to(ROOT / "build/engine-cpython-3.11.so")
    return made


@dataclass
class Start:
    """A command line of pylaunch's and what is around it."""

    args: list[str] = field(default_factory=lambda: ["-c", "pass"])
    env: dict[str, str] = field(default_factory=dict)
    argv0: str | None = None
    cwd: Path | None = None
    process_1: bool = False

    def run(self, prefix: Prefix, long: bool) -> tuple[bool, list[str]]:
        env = {
            "HOME": "/home/me",
            "LANG": "C.UTF-8",
            **self.env,
            **({LONG_WAY: "0"} if long else {}),
        }
        argv = [self.argv0 or str(prefix.pylaunch), *self.args]
        program = prefix.pylaunch
        if self.process_1:
            argv = [*NAMESPACE, str(prefix.pylaunch), *self.args]
            program = argv[0]
        done = subprocess.run(
            argv, executable=program, env=env, cwd=self.cwd, capture_output=True, text=True
        )
        lines = done.stdout.splitlines()
        usual = "usual 1" in lines
        dump = [decode(line) for line in lines if not line.startswith("usual")]
        rest = [line for line in dump if LONG_WAY not in line]
        return usual, [str(done.returncode), done.stderr, *rest]


def decode(line: str) -> str:
    what, _, digits = line.partition(" ")
    try:
        return f"{what} {bytes.fromhex(digits).decode('latin-1')}"
    except ValueError:  # Not the probe's.
        return line


def compare(prefix: Prefix, start: Start, usual: bool) -> None:
    was_usual, short = start.run(prefix, long=False)
    was_long, long = start.run(prefix, long=True)
    assert not was_long
    assert was_usual == usual
    assert short == long
    assert "handoff" in "".join(long) or not usual


COMMANDS = {
    "nothing": [],
    "stdin": ["-"],
    "command": ["-c", "pass", "--explain", "-E"],
    "attached command": ["-cpass"],
    "module": ["-mthis", "-x"],
    "program": ["x.py", "--preload", "y"],
    "empty program": [""],
    "switches": ["-bb", "-sS", "-O", "x.py"],
    "every switch": ["-bBdhiOPqRsStuvVx?", "x.py"],
    "switches and a command": ["-uBc", "pass"],
    "values": ["-W", "ignore", "-Wonce", "-X", "utf8", "-Xdev", "x.py"],
    "value that looks like an option": ["-W", "--explain", "x.py"],
    "value that is not there": ["-X"],
    "help": ["-h"],
    "spaces and bytes": ["-c", "a b\n\udcff", "\udce9"],
}


@pytest.mark.parametrize("args", COMMANDS.values(), ids=COMMANDS)
def test_usual_command_lines(prefix, args):
    prefix.configure()
    prefix.add_python()
    compare(prefix, Start(args), usual=True)


UNUSUAL_COMMANDS = {
    "own switch": ["--explain", "-c", "pass"],
    "own value": ["--cache", "/x", "-c", "pass"],
    "misspelt": ["--explian", "-c", "pass"],
    "Python's long option": ["--help-env"],
    "attached long option": ["-B-help-env"],
    "no environment": ["-E", "x.py"],
    "isolated": ["-I", "x.py"],
    "isolated, in a word": ["-sIc", "pass"],
    "double dash": ["--", "x.py"],
    "unknown letter": ["-Z"],
}


@pytest.mark.parametrize("args", UNUSUAL_COMMANDS.values(), ids=UNUSUAL_COMMANDS)
def test_unusual_command_lines(prefix, args):
    prefix.configure()
    prefix.add_python()
    if args == ["--explain", "-c", "pass"]:  # Its variable would say the contrary.
        assert Start(args).run(prefix, long=False)[0] is False
        return
    compare(prefix, Start(args), usual=False)


ENVIRONMENTS = {
    "cache folder": ({"PYLAUNCH_CACHE": "/var/my cache"}, True),
    "relative cache folder": ({"PYLAUNCH_CACHE": "here"}, False),
    "empty cache folder": ({"PYLAUNCH_CACHE": ""}, False),
    "newline in the cache folder": ({"PYLAUNCH_CACHE": "/a\nb"}, False),
    "XDG": ({"XDG_CACHE_HOME": "/var/cache"}, True),
    "relative XDG": ({"XDG_CACHE_HOME": "cache"}, True),
    "no home": ({"HOME": ""}, True),
    "home is the root": ({"HOME": "/"}, True),
    "slashes at the end": ({"HOME": "/home/me//"}, True),
    "XDG with a slash": ({"XDG_CACHE_HOME": "/var/cache/"}, True),
    "cache with a slash": ({"PYLAUNCH_CACHE": "/var/cache/"}, True),
    "cache is the root": ({"PYLAUNCH_CACHE": "/"}, True),
    "user's preload": ({"LD_PRELOAD": "/nowhere/a.so:/nowhere/b.so"}, True),
    "empty preload": ({"LD_PRELOAD": ""}, True),
    "longest preload": ({"LD_PRELOAD": "/nowhere/" + "a" * 5000}, False),
    "option": ({"PYLAUNCH_EXIT": "fast"}, False),
    "unknown variable": ({"PYLAUNCH_NO_SUCH": "1"}, False),
    "stray handoff": ({"PYLAUNCH_HANDOFF": "usual:1:/a\n/b\n/c"}, False),
    "many variables": ({f"V{i}": "x" for i in range(2000)}, False),
    "other environment, ignored": ({"VIRTUAL_ENV": "/nowhere"}, True),
}


@pytest.mark.parametrize(("env", "usual"), ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_variables(prefix, env, usual):
    prefix.configure()
    prefix.add_python()
    compare(prefix, Start(env=env), usual)


@pytest.mark.parametrize("way", ["two words", "one word", "variable", "both"])
@pytest.mark.parametrize(
    "what", ["file", "link", "environment", "no such file", "relative", "name"]
)
def test_python_that_is_named(prefix, tmp_path, way, what):
    prefix.configure()  # Its own would be another.
    prefix.add_python(name="python3.12")
    prefix.add_python(tmp_path / "other")
    named = {
        "file": str(tmp_path / "other/bin/python3.11"),
        "link": str(tmp_path / "other/bin/../bin/python"),
        "environment": str(tmp_path / "other/"),
        "no such file": "/nowhere/python3.11",
        "relative": "other/bin/python3.11",
        "name": "python3.11",
    }[what]
    args = {"two words": ["--python", named], "one word": [f"--python={named}"]}
    env = {"PYLAUNCH_PYTHON": named if way == "variable" else "/nowhere"}
    start = Start(
        [*args.get(way, args["two words"] if way == "both" else []), "-c", "pass"],
        env if way in ("variable", "both") else {},
        cwd=tmp_path,
    )
    usual = what in ("file", "link", "environment")
    compare(prefix, start, usual)
    if usual:
        assert "/other/" in "".join(start.run(prefix, long=False)[1])


@pytest.mark.parametrize(
    "args", [["--python"], ["--python="], ["--python", ""], ["--pythons", "/"]]
)
def test_python_that_is_named_badly(prefix, args):
    prefix.configure()
    prefix.add_python()
    compare(prefix, Start(args), usual=False)
    compare(prefix, Start(["--python", "/x", *args]), usual=False)


def test_named_python_that_cannot_be_executed(prefix, tmp_path):
    """The long way then reads the command line as it was."""
    prefix.configure()
    python = prefix.add_python(tmp_path / "other")
    python.write_bytes(b"\x7fELF, but no more of it")
    start = Start(["--python", str(python), "-c", "pass"])
    compare(prefix, start, usual=False)
    assert "Exec format error" in start.run(prefix, long=False)[1][1]


def test_no_variables_at_all(prefix, tmp_path):
    prefix.configure()
    prefix.add_python()
    usual = [
        subprocess.check_output([prefix.pylaunch, "x.py"], env=env, text=True).splitlines()
        for env in ({}, {LONG_WAY: "0"})
    ]
    assert usual[0][0] == "usual 1"
    assert usual[0][1:] == [line for line in usual[1][1:] if LONG_WAY.encode().hex() not in line]


def test_name_alone_as_first_argument(prefix):
    prefix.configure()
    prefix.add_python()
    compare(prefix, Start(argv0="pylaunch"), usual=True)
    (prefix.path / "bin/pylaunch._pth").write_text("")
    compare(prefix, Start(argv0="pylaunch"), usual=False)
    compare(prefix, Start(), usual=False)


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_active_environment(prefix, tmp_path, variable):
    active = tmp_path / "active"
    prefix.add_python(active)
    compare(prefix, Start(env={variable: str(active)}), usual=True)
    compare(prefix, Start(env={variable: "active"}, cwd=tmp_path), usual=False)
    compare(
        prefix, Start(env={variable: str(tmp_path / "none"), "PATH": f"{active}/bin"}), usual=False
    )
    (active / "bin/python").unlink()  # python3 is there.
    compare(prefix, Start(env={variable: str(active)}), usual=False)


def test_path(prefix, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    (first / "bin").mkdir(parents=True)
    prefix.add_python(second)
    path = f"{first}/bin:{second}/bin/:/usr/bin"
    compare(prefix, Start(env={"PATH": path}), usual=True)
    compare(
        prefix, Start(env={"PATH": f":{path}"}), usual=False
    )  # Begins with the working directory.
    compare(prefix, Start(env={"PATH": f"{first}/bin"}), usual=False)
    (first / "bin/python3").write_text("#!/bin/sh\nexit 3\n")
    (first / "bin/python3").chmod(0o755)
    compare(prefix, Start(env={"PATH": path}), usual=False)


@pytest.mark.parametrize(
    "name", ["python", "python3.11t", "python3.011", "python3.", "pypy3.11", "python3.11 (deleted)"]
)
def test_file_that_is_not_named_after_a_version(prefix, name):
    prefix.configure()
    python = prefix.add_python(name="real")
    python.rename(python.with_name(name) if name != "python" else python)
    for link in ("python", "python3"):
        (prefix.path / "bin" / link).unlink()
    (prefix.path / "bin/python").symlink_to(name if name != "python" else "real")
    assert Start().run(prefix, long=False)[0] is False


def test_not_an_elf_file(prefix):
    prefix.configure()
    python = prefix.add_python()
    python.write_text("#!/bin/sh\nexit 3\n")
    compare(prefix, Start(), usual=False)


LOADER = r"""
static long call(long number, long a, long b, long c) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11");
  return result;
}
void run(long* stack) {
  for (char** setting = (char**)(stack + stack[0] + 2); *setting; ++setting) {
    long size = 0;
    while ((*setting)[size]) ++size;
    call(1, 1, (long)*setting, size);
    call(1, 1, (long)"\n", 1);
  }
  call(60, 3, 0, 0);
}
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call run\n");
"""


def test_a_python_of_musl_runs_without_the_engine(prefix, tmp_path):
    """musl's loader would take the engine, and end for want of glibc's functions."""
    loader = tmp_path / "ld-musl-x86_64.so.1"  # Shows what it is given.
    build = ["cc", "-O1", "-fno-stack-protector", "-nostdlib", "-x", "c", "-"]
    subprocess.run([*build, "-static", "-o", loader], input=LOADER, text=True, check=True)
    prefix.configure()
    python = prefix.add_python()
    named = f"-Wl,--dynamic-linker={loader}"
    subprocess.run(
        [*build, named, "-pie", "-fPIE", "-o", python], input=LOADER, text=True, check=True
    )
    _, (code, error, *shown) = Start().run(prefix, long=False)
    assert code == "3"
    assert not [x for x in shown if "LD_PRELOAD" in x or "HANDOFF" in x]
    assert f"running {prefix.path}/bin/python without pylaunch" in error
    assert f"cause: it is a program of musl's ({loader})" in error
    assert "hint:" in error
    code, error, *_ = Start(["--build"]).run(prefix, long=False)[1]
    assert code == "2" and "cannot enter" in error and "musl" in error


def test_pylaunch_itself(prefix):
    prefix.configure()
    (prefix.path / "bin/python").symlink_to("python3.11")
    os.link(prefix.pylaunch, prefix.path / "bin/python3.11")
    compare(prefix, Start(), usual=False)


def test_no_engine_for_this_version(prefix):
    prefix.configure()
    prefix.add_python(name="python3.9")
    compare(prefix, Start(), usual=False)


@pytest.mark.parametrize("name", ["a b", "a:b", "a\nb", "é"])
def test_names_of_folders(tmp_path, name):
    prefix = make_prefix(tmp_path / name)
    prefix.configure()
    prefix.add_python()
    compare(prefix, Start(), usual=name == "é")


def test_build_tree(tmp_path):
    """Everything beside pylaunch, nothing in ../libexec/pylaunch."""
    prefix = make_prefix(tmp_path / "prefix")
    prefix.configure()
    prefix.add_python()
    shutil.rmtree(prefix.path / "libexec")
    for name in ("engine-cpython-3.11.so", "pylaunch-sealer"):
        (prefix.path / "bin" / name).symlink_to(ROOT / "build" / name)
    compare(prefix, Start(), usual=True)


def test_bounded_files_are_no_obstacle(prefix):
    """A memory file cannot be written under RLIMIT_FSIZE; the usual start needs none."""
    prefix.configure()
    prefix.add_python()
    command = f"ulimit -f 0; exec {prefix.pylaunch} -c pass"
    done = subprocess.run(["sh", "-c", command], env={"HOME": "/"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usual 1\n")


# --------------------------------------------------------------------------------- as process 1


@pytest.fixture
def container(prefix) -> Prefix:
    """Where it is an init, and never has a C library."""
    if subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode != 0:
        pytest.skip("unshare is not permitted here")
    prefix.configure()
    return prefix


def test_an_init_tells_the_program_what_the_long_way_tells(container):
    """That what is written has to be written before the end, too: it is the end of all."""
    container.add_python()
    compare(container, Start(process_1=True), usual=True)
    compare(container, Start(["x.py"], {"LD_PRELOAD": "/nowhere/a.so"}, process_1=True), usual=True)
    compare(container, Start(["--cache", "/x", "x.py"], process_1=True), usual=False)


def test_an_init_that_cannot_execute_the_program(container):
    """The long way tries, too, and says what is wrong."""
    container.add_python().write_bytes(b"\x7fELF, but no more of it")
    compare(container, Start(process_1=True), usual=False)
    code, error = Start(process_1=True).run(container, long=False)[1][:2]
    assert code == "2" and "Exec format error" in error
