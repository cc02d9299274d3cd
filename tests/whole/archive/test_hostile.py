# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""Whatever is done to the archive, its folder or its writers: the program does what stock does, and the next start is healthy."""

import contextlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Runner, finish, start, wait_for_sealers
from test_archive import EXPECTED, PROGRAM, archive_of, is_healthy, runs_as_stock
from test_archive import cached as cached
from test_archive import full_cache as full_cache

WAITING = f"import sys\nprint('ready', flush=True)\nsys.stdin.readline()\n{PROGRAM}"


def start_waiting(runner: Runner, **kwargs) -> subprocess.Popen:
    """A program that has opened the archive and imports the rest when it reads a line."""
    launch = [*runner.launch(runner.warm_cache), *kwargs.pop("flags", ())]
    process = start(
        [*launch, "-c", WAITING], runner.env(), runner.base, stdin=subprocess.PIPE, **kwargs
    )
    assert process.stdout.readline() == b"ready\n"
    return process


# ---------------------------------------------------------------------------------------------- the file, in use


@pytest.mark.parametrize("left", [0, 100, 4096, 0.3, 0.9, -1])
def test_archive_cut_off_in_place_while_in_use(cached, left):
    """Reading a mapping beyond the file's end is SIGBUS."""
    archive = archive_of(cached)
    size = archive.stat().st_size
    process = start_waiting(cached)
    os.truncate(archive, int(size * left) if isinstance(left, float) else left % size)
    code, out, err = finish(process, b"\n")
    assert (code, out.decode()) == (0, EXPECTED), err
    told = err.decode().splitlines()
    assert len(told) <= 1 and all("is corrupt" in x for x in told)
    wait_for_sealers(cached.warm_cache)
    runs_as_stock(cached)
    is_healthy(cached)


def test_archive_overwritten_in_place_while_in_use(cached):
    archive = archive_of(cached)
    process = start_waiting(cached)
    with archive.open("r+b") as file:
        file.write(os.urandom(archive.stat().st_size))
    code, out, err = finish(process, b"\n")
    assert (code, out.decode()) == (0, EXPECTED), err
    wait_for_sealers(cached.warm_cache)
    runs_as_stock(cached)
    is_healthy(cached)


def test_programs_own_sigbus_handler_is_left_alone(cached):
    program = (
        "import signal, os\nsignal.signal(signal.SIGBUS, lambda *_: print('mine'))\n"
        f"{PROGRAM}\nprint(signal.getsignal(signal.SIGBUS) is not None)\nos.kill(os.getpid(), signal.SIGBUS)\n"
        "print(signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    )
    result = cached.again("-c", program)
    assert (result.code, result.out, result.err) == (0, f"{EXPECTED}True\nmine\nset()\n", "")


def test_folder_that_vanishes_while_in_use(cached):
    process = start_waiting(cached)
    shutil.rmtree(cached.warm_cache)
    code, out, err = finish(process, b"\n")
    assert (code, out.decode(), err) == (0, EXPECTED, b"")
    wait_for_sealers()
    runs_as_stock(cached, warnings=0)
    is_healthy(cached)


# ---------------------------------------------------------------------------------------------- its writers


@pytest.fixture
def traced(ours, monkeypatch):
    """A runner whose sealer runs under strace with the options in the file `inject`; the log is in `log`."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    build = ours.lab.pylaunch.parent
    folder = ours.base / "bin"
    folder.mkdir()
    shutil.copy(ours.lab.pylaunch, folder / "pylaunch")
    for name in [*build.glob("engine-*.so"), build / "doctor", build / "builder"]:
        (folder / name.name).symlink_to(name)
    sealer = folder / "pylaunch-sealer"
    sealer.write_text(
        f"#!/bin/sh\nexec {shutil.which('strace')} -f -o {ours.base}/log $(/bin/cat {ours.base}/inject)"
        f' {build}/pylaunch-sealer "$@"\n'
    )
    sealer.chmod(0o755)
    lab = type(ours.lab)(**{**vars(ours.lab), "pylaunch": folder / "pylaunch"})
    return Runner(lab, "warm", ours.base, ours.warm_cache)


def seal_with(runner: Runner, inject: str) -> bool:
    """One run; true if the fault happened."""
    shutil.rmtree(runner.warm_cache, ignore_errors=True)
    (runner.base / "inject").write_text(f"-e trace={inject.split(':')[0]} -e inject={inject}")
    runs_as_stock(runner)
    log = (runner.base / "log").read_text()
    return "INJECTED" in log or "killed by SIGKILL" in log


# What the sealer does to write an archive, in the order of doing it; a sample of it, test_every_step.py has all.
STEPS = [
    ("mkdir", 1), ("flock", 1), ("openat", 3), ("pwrite64", 1), ("pwrite64", 2), ("pwrite64", 60),
    ("pwrite64", 129), ("fsync", 1), ("rename", 1), ("fsync", 2),
]  # fmt: skip


@pytest.mark.parametrize(("call", "n"), STEPS)
def test_writer_killed_at_any_step(traced, call, n):
    assert seal_with(traced, f"{call}:signal=KILL:when={n}")
    (traced.base / "inject").write_text("-e trace=none")
    runs_as_stock(traced)
    is_healthy(traced)


@pytest.mark.parametrize(
    ("call", "n", "error"),
    [
        ("pwrite64", 1, "ENOSPC"),
        ("pwrite64", 70, "EIO"),
        ("pwrite64", 131, "EDQUOT"),
        ("fsync", 1, "EIO"),
        ("fsync", 2, "EINVAL"),
        ("rename", 1, "EROFS"),
        ("flock", 1, "ENOLCK"),
        ("flock", 1, "EOPNOTSUPP"),
        ("mkdir", 1, "EACCES"),
        ("fchmod", 1, "EPERM"),
        ("mmap", 1, "ENOMEM"),
    ],
)
def test_writer_meets_an_error_at_any_step(traced, call, n, error):
    assert seal_with(traced, f"{call}:error={error}:when={n}")
    left = [p.name for p in traced.warm_cache.glob("*.tmp.*")]
    assert left == []
    (traced.base / "inject").write_text("-e trace=none")
    runs_as_stock(traced)
    is_healthy(traced)


def test_failure_after_the_program_has_ended_is_told_at_the_next_start_once(traced):
    (traced.base / "inject").write_text("-e trace=fsync -e inject=fsync:error=EIO:when=1")
    assert traced.again("-c", PROGRAM).err == ""
    wait_for_sealers(traced.warm_cache)
    time.sleep(0.2)
    deadline = time.monotonic() + 30
    while not list(traced.warm_cache.glob("*.note")) and time.monotonic() < deadline:
        time.sleep(0.05)
    (traced.base / "inject").write_text("-e trace=none")
    (told,) = traced.again("-c", PROGRAM, env={"PYLAUNCH_SEAL": "wait"}).warnings()
    assert "could not be written at an earlier start" in told and "cannot sync" in told
    is_healthy(traced)


# ---------------------------------------------------------------------------------------------- clocks, users, crowds


def test_clock_that_goes_back(ours, tree):
    """Sources from the future prove nothing; an archive from the future is one like any other."""
    tree.write({"m.py": "X = 1\n"}, age=-5000)
    env = {"PYTHONPATH": str(tree), "PYLAUNCH_SEAL": "wait"}
    program = f"import m; print(m.X); {PROGRAM}"
    for _ in range(2):
        assert ours.again("-c", program, env=env).out == f"1\n{EXPECTED}"
    os.utime(archive_of(ours), (time.time() + 90_000,) * 2)
    result = ours.again("-c", program, env=env, flags=["--explain"])
    assert result.archive_counts()[1:] == (1, 0), result.err
    (tree / "m.py").write_text("X = 2\n")
    assert ours.again("-c", program, env=env).out == f"2\n{EXPECTED}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv")
def test_two_users_and_one_folder(cached):
    """Root's archive is good enough for others, who cannot write it; one of theirs is not for root, nor for a third."""
    for path in [*cached.base.parents][: -2 if cached.base.is_relative_to("/tmp") else None]:
        if path.is_relative_to("/tmp") and path != Path("/tmp"):
            os.chmod(path, path.stat().st_mode | 0o055)
    os.chmod(cached.base, 0o755)
    os.chmod(cached.warm_cache, 0o777)
    archive = archive_of(cached)
    archive.chmod(0o644)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    probe = cached.again("-c", "print(1)", wrap=nobody)
    if probe.code != 0:
        pytest.skip("this Python is not for other users to run")
    result = cached.again("-c", PROGRAM, wrap=nobody, flags=["--explain"])
    assert result.out == EXPECTED and result.archive_counts()[1:] == (0, 0), result.err
    os.chown(archive, 65534, 65534)
    runs_as_stock(cached, warnings=1)
    is_healthy(cached)


def make_package(folder: Path, version: str) -> Path:
    """Thirty modules, all of which say the version."""
    source = folder / f"src-{version}"
    source.mkdir()
    # Of a size of its own: a .pyc of stock's cannot tell two versions of one second apart.
    text = f"V = {version!r}" + "\n" * int(version)
    for i in range(30):
        (source / f"m{i}.py").write_text(text)
    (source / "__init__.py").write_text(text)
    return source


def test_32_starts_on_an_empty_cache_during_an_upgrade(ours, tmp_path):
    """Each start sees what stock could see: at the end all is new, and nothing old is served."""
    venv = tmp_path / "venv"
    env = ours.env()
    subprocess.run([ours.python, "-m", "venv", "--without-pip", venv], env=env, check=True)
    target = next((venv / "lib").glob("python*/site-packages")) / "crowd"

    def install(version: str) -> None:
        """Replaces the files as pip would, one after the other."""
        source = make_package(tmp_path, version)
        target.mkdir(exist_ok=True)
        for file in sorted(source.iterdir()):
            shutil.copy(file, target / f"{file.name}.new")
            (target / f"{file.name}.new").rename(target / file.name)

    install("1")
    ours.python = venv / "bin/python"
    names = ", ".join(f"crowd.m{i}" for i in range(30))
    program = f"import {names}, sys; print({{m.V for n, m in sys.modules.items() if n.startswith('crowd')}})"
    launch = ours.launch(ours.warm_cache)
    processes = []
    for i in range(32):
        processes.append(start([*launch, "-c", program], ours.env(), ours.base))
        if i == 8:
            install("2")
    for process in processes:
        code, out, err = finish(process)
        # A module that is just being replaced is missing for stock, too.
        assert (code == 0 and set(re.findall(r"\d", out.decode())) <= {"1", "2"}) or b"crowd" in err
        assert not [x for x in err.decode().splitlines() if x.startswith("pylaunch: ")]
    wait_for_sealers(ours.warm_cache)
    for _ in range(2):
        assert ours.again("-c", program).out == "{'2'}\n"
    assert ours.again(flags=["--verify"]).code == 0
    assert list(ours.warm_cache.glob("*.tmp.*")) == []


# ---------------------------------------------------------------------------------------------- zip files, editable installs


def test_zip_files_and_import_hooks_are_found_as_under_stock(ours, tree):
    tree.write({"real/hooked.py": "X = 'hook'\n", "plain/m.py": "X = 'plain'\n"})
    shutil.make_archive(str(tree / "lib"), "zip", tree / "plain")
    hook = (
        "import sys, importlib.util as u\n"
        "class Editable:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        f"        if name == 'hooked': return u.spec_from_file_location(name, {str(tree / 'real/hooked.py')!r})\n"
        "sys.meta_path.append(Editable)\n"
    )
    program = (
        hook + "import m, hooked; print(m.X, m.__file__, m.__loader__, hooked.X, hooked.__spec__)"
    )
    env = {"PYTHONPATH": str(tree / "lib.zip"), "PYLAUNCH_SEAL": "wait"}
    expected = ours.stock("-c", program, env=env)
    for _ in range(2):
        got = ours.again("-c", program, env=env)
        strip = re.compile(r" at 0x[0-9a-f]+|object")
        assert (strip.sub("", got.out), got.err) == (strip.sub("", expected.out), "")
    with contextlib.suppress(OSError):
        (tree / "real/hooked.py").write_text("X = 'changed'\n")
    assert "changed" in ours.again("-c", program, env=env).out


def test_missing_names_stay_missing_and_new_ones_are_found(cached, tree):
    """What is not installed may be in a moment."""
    tree.write({"there.py": ""})
    program = (
        "import importlib, importlib.util as u, os, pathlib, time\n"
        "print([u.find_spec(f'missing{i}') for i in range(20)])\n"
        f"pathlib.Path({str(tree / 'missing7.py')!r}).write_text('X = 7')\n"
        "importlib.invalidate_caches()\n"
        "import missing7; print(missing7.X, u.find_spec('missing8'))\n"
        f"os.mkdir({str(tree / 'missing9')!r}); importlib.invalidate_caches()\n"
        "print(u.find_spec('missing9').submodule_search_locations is not None)\n"
    )
    env = {"PYTHONPATH": str(tree)}
    result = cached.again("-c", program, env=env)
    assert result.code == 0, result.err
    assert result.out == f"{[None] * 20}\n7 None\nTrue\n"
