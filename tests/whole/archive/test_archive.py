# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""The archive helps or stays out of the way: whatever is wrong with it, the program runs as under stock."""

import contextlib
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import (
    ROOT,
    Runner,
    archives,
    clean_environment,
    finish,
    sealers,
    serial,
    start,
    wait_for_sealers,
)

IMPORTS = "import json, decimal, asyncio, email, http.client"
PROGRAM = f"{IMPORTS}; print(json.dumps([1]), decimal.Decimal(1) / 8, int(http.client.OK))"
EXPECTED = "[1] 0.125 200\n"


@pytest.fixture(scope="session")
def full_cache(lab, tmp_path_factory) -> Path:
    """A cache folder whose archive holds all that PROGRAM needs. Never used itself, only copied."""
    lab.need_pylaunch()
    folder = tmp_path_factory.mktemp("full") / "cache"
    runner = Runner(lab, "warm", folder.parent, folder)
    assert runner.warm("-c", PROGRAM).out == EXPECTED
    assert len(archives(folder)) == 1
    return folder


@pytest.fixture
def cached(ours, full_cache) -> Runner:
    """A runner on a copy of the full archive."""
    shutil.copytree(full_cache, ours.warm_cache, symlinks=True)
    return ours


def archive_of(runner: Runner) -> Path:
    (archive,) = archives(runner.warm_cache)
    return archive


def runs_as_stock(runner: Runner, warnings: int | None = None, wrap=()) -> str:
    """Runs PROGRAM once. Returns stderr."""
    result = runner.again("-c", PROGRAM, env={"PYLAUNCH_SEAL": "wait"}, wrap=wrap)
    assert (result.code, result.out) == (0, EXPECTED), result.err
    assert result.without_pylaunch_lines().err == ""
    told = [line for line in result.err.splitlines() if line.startswith("pylaunch: ")]
    assert told == result.warnings()
    assert len(told) <= 1
    if warnings is not None:
        assert len(told) == warnings, told
    return result.err


def is_healthy(runner: Runner) -> None:
    result = runner.again("-c", PROGRAM, flags=["--explain"])
    hits, misses, stale = result.archive_counts()
    assert result.out == EXPECTED
    assert result.warnings() == []
    assert (misses, stale) == (0, 0) and hits > 50, result.err


# ---------------------------------------------------------------------------------------------- it helps


def test_second_start_needs_no_source_and_no_pyc(ours):
    first = ours.again("-c", PROGRAM, flags=["--explain"], env={"PYLAUNCH_SEAL": "wait"})
    assert first.archive_counts()[0] == 0 and first.archive_counts()[1] > 50
    is_healthy(ours)
    assert archive_of(ours).stat().st_mode & 0o777 == 0o600


def test_warm_start_opens_no_source_and_no_pyc(cached):
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    trace = cached.base / "trace"
    wrap = ["strace", "-f", "-e", "trace=open,openat", "-o", trace]
    assert cached.again("-c", PROGRAM, wrap=wrap).out == EXPECTED
    opened = re.findall(r'"([^"]+\.pyc?)"', trace.read_text())
    assert opened == []


def test_archive_appears_in_the_background_without_being_asked(ours):
    assert ours.again("-c", PROGRAM).out == EXPECTED
    wait_for_sealers(ours.warm_cache)
    is_healthy(ours)


def test_archive_is_sealed_before_the_program_when_preloading(ours):
    """os._exit, exec and SIGKILL skip what comes at exit."""
    flags = ["--preload", IMPORTS]
    for end in ("os.kill(os.getpid(), 9)", "os._exit(0)", "os.execlp('true', 'true')"):
        shutil.rmtree(ours.warm_cache, ignore_errors=True)
        ours.again("-c", f"import os; {end}", flags=flags, env={"PYLAUNCH_SEAL": "wait"})
        wait_for_sealers(ours.warm_cache)
        is_healthy(ours)


def test_modules_met_later_are_added_at_exit(ours):
    env = {"PYLAUNCH_SEAL": "wait"}
    for program in (
        "import json",
        "import decimal; raise SystemExit(3)",
        "import email; 1/0",
        PROGRAM,
    ):
        ours.again("-c", program, env=env)
    is_healthy(ours)
    assert ours.again("-c", "import json", flags=["--explain"]).archive_counts()[1:] == (0, 0)


def test_archive_is_per_optimisation_level(cached):
    result = cached.again("-O", "-c", PROGRAM, flags=["--explain"], env={"PYLAUNCH_SEAL": "wait"})
    assert result.archive_counts()[0] == 0
    assert len(archives(cached.warm_cache)) == 2
    program = "import ast, email.message as m; print(m.Message.__doc__ is None, m.Message.get.__doc__ is None)"
    for args in (["-OO"], ["-O"], []):
        for _ in range(2):
            result = cached.again(*args, "-c", program, env={"PYLAUNCH_SEAL": "wait"})
            assert result.out == ("True True\n" if args == ["-OO"] else "False False\n")
    is_healthy(cached)


def test_young_sources_are_never_archived(ours, tree):
    tree.write({"old.py": "X = 1\n"}).write({"young.py": "X = 2\n"}, age=0)
    os.utime(tree.root, (time.time() - 100,) * 2)
    env = {"PYTHONPATH": str(tree), "PYLAUNCH_SEAL": "wait"}
    ours.again("-c", "import old, young", env=env)
    os.utime(tree.root, (time.time() - 90,) * 2)
    result = ours.again("-c", "import old, young", env=env, flags=["--explain"])
    assert result.archive_counts()[1] == 1, result.err


def test_stale_is_silent_and_explained(ours, tree):
    tree.write({"m.py": "X = 1\n"})
    env = {"PYTHONPATH": str(tree), "PYLAUNCH_SEAL": "wait"}
    ours.prime(tree, "-c", "import m; print(m.X)", env=env)
    tree.write({"m.py": "X = 2\n"}, age=50)
    result = ours.again("-c", "import m; print(m.X)", env=env, flags=["--explain"])
    assert result.out == "2\n" and result.archive_counts()[2] == 1
    again = ours.again("-c", "import m; print(m.X)", env=env)
    assert (again.out, again.err) == ("2\n", "")


# ---------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("length", [0, 1, 7, 8, 63, 64, 100, 4096, 0.25, 0.5, 0.9, -1])
def test_truncated_archive(cached, length):
    archive = archive_of(cached)
    size = archive.stat().st_size
    length = (
        size + length if length < 0 else int(length * size) if isinstance(length, float) else length
    )
    os.truncate(archive, length)
    assert ".pla" in runs_as_stock(cached, warnings=1)
    is_healthy(cached)


def test_garbage_for_an_archive(cached):
    archive = archive_of(cached)
    for garbage in (b"\0" * 100_000, random.Random(1).randbytes(100_000), b"PK\3\4" * 999, b"\n"):
        archive.write_bytes(garbage)
        runs_as_stock(cached, warnings=1)
        is_healthy(cached)


def test_longer_archive(cached):
    with archive_of(cached).open("ab") as file:
        file.write(b"more")
    runs_as_stock(cached)


@pytest.mark.slow  # 1.5 s each.
@pytest.mark.parametrize("seed", range(6))
def test_flipped_bytes(cached, seed):
    """A flip anywhere: in the header, the index, a frame. At most one line, never another result."""
    archive = archive_of(cached)
    good = archive.read_bytes()
    rng = random.Random(seed)
    places = [*range(seed, 96, 16), *(rng.randrange(len(good)) for _ in range(6))]
    told = 0
    for place in places:
        data = bytearray(good)
        data[place] ^= 1 << rng.randrange(8)
        shutil.rmtree(cached.warm_cache)
        cached.warm_cache.mkdir(mode=0o700)
        archive.write_bytes(data)
        archive.chmod(0o600)
        told += bool(runs_as_stock(cached))
    assert told > 0
    # A broken frame costs its archive; what the run had taken from it before comes back with the next run.
    runs_as_stock(cached, warnings=0)
    is_healthy(cached)


def test_corrupt_frames_everywhere(cached):
    """All frames are broken, header and index are not: the damage shows only when a module is read."""
    archive = archive_of(cached)
    data = bytearray(archive.read_bytes())
    for match in re.finditer(re.escape(b"\x28\xb5\x2f\xfd"), bytes(data)):  # zstd's magic number.
        data[match.start() + 12] ^= 0xFF
    archive.write_bytes(data)
    runs_as_stock(cached, warnings=1)
    is_healthy(cached)


def test_archive_of_another_build(cached):
    """Another environment's archive under this one's name."""
    archive = archive_of(cached)
    cached.again("-O", "-c", PROGRAM, env={"PYLAUNCH_SEAL": "wait"})
    (other,) = (x for x in archives(cached.warm_cache) if x != archive)
    shutil.copy(other, archive)
    runs_as_stock(cached, warnings=1)
    is_healthy(cached)


def test_warning_leaves_nothing_in_the_environment(cached):
    archive_of(cached).write_bytes(b"broken")
    program = "import os; print(sorted(os.environ))"
    result = cached.again("-c", program, flags=["--cache-mode=readonly"])
    assert len(result.warnings()) == 1
    assert result.out == cached.stock("-c", program).out


def test_damaged_index_entry_is_told(cached):
    """Whatever byte of the index is damaged: nothing goes missing in silence."""
    archive = archive_of(cached)
    good = archive.read_bytes()
    start_of_index = int.from_bytes(good[24:32], "little")
    random.seed(5)
    for at in random.sample(range(start_of_index + 200, len(good)), 12):
        data = bytearray(good)
        data[at] ^= 0x10
        archive.write_bytes(data)
        result = cached.again("-c", PROGRAM, flags=["--cache-mode=readonly", "--explain"])
        assert result.out == EXPECTED
        misses = result.archive_counts()[1]
        assert (misses == 0) == (result.warnings() == []), (at, result.err)
    runs_as_stock(cached)
    is_healthy(cached)


def test_one_warning_per_process_tree(cached, installed):
    """Children that pylaunch starts find the same archive just as broken."""
    program = (
        "import subprocess, sys, multiprocessing as m\n"
        f"{PROGRAM}\n"
        "for _ in range(2): subprocess.run([sys.executable, '-c', 'import json'])\n"
        "if __name__ == '__main__':\n"
        "    for how in ('spawn', 'fork'):\n"
        "        p = m.get_context(how).Process(target=print, args=('child',)); p.start(); p.join()\n"
    )
    cached.python = installed / "bin/python"
    cached.lab, lab = cached.lab, cached.lab
    path = cached.base / "program.py"
    path.write_text(program)
    env = {"PYLAUNCH_CACHE": str(cached.warm_cache)}
    launch = [installed / "bin/pylaunch"]
    process = start(
        [*launch, "-c", PROGRAM], cached.env({**env, "PYLAUNCH_SEAL": "wait"}), cached.base
    )
    assert finish(process)[0] == 0
    for archive in archives(cached.warm_cache):
        archive.write_bytes(b"broken")
        archive.chmod(0o444)
    process = start(
        [*launch, path], cached.env({**env, "PYLAUNCH_CACHE_MODE": "readonly"}), cached.base
    )
    code, out, err = finish(process)
    assert (code, out.decode().count("child")) == (0, 2), err
    assert err.decode().count("pylaunch: warning:") == 1, err.decode()
    assert lab is cached.lab


# ---------------------------------------------------------------------------------------------- owners and modes


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_archive_of_another_user_is_never_read(cached):
    archive = archive_of(cached)
    os.chown(archive, 12345, 12345)
    runs_as_stock(cached, warnings=1)
    is_healthy(cached)
    assert archive.stat().st_uid == os.geteuid()


@pytest.mark.parametrize("mode", [0o660, 0o602, 0o666, 0o777])
def test_archive_that_others_can_write_is_never_read(cached, mode):
    archive = archive_of(cached)
    archive.chmod(mode)
    runs_as_stock(cached, warnings=1)
    is_healthy(cached)
    assert archive.stat().st_mode & 0o777 == 0o600


def test_cache_folder_that_others_can_write(cached):
    """Who can write the folder can put an archive of his own there, but not one that belongs to us."""
    cached.warm_cache.chmod(0o777)
    runs_as_stock(cached)


def test_unreadable_archive(cached, ordinary_root):
    archive_of(cached).chmod(0)
    runs_as_stock(cached, warnings=1, wrap=ordinary_root)


def test_symbolic_link_for_an_archive(cached):
    archive = archive_of(cached)
    elsewhere = cached.base / "elsewhere.pla"
    archive.rename(elsewhere)
    archive.symlink_to(elsewhere)
    runs_as_stock(cached)
    assert elsewhere.exists()


# ---------------------------------------------------------------------------------------------- folders


def test_read_only_folder_with_an_archive(cached, ordinary_root):
    cached.warm_cache.chmod(0o555)
    try:
        runs_as_stock(cached, warnings=0, wrap=ordinary_root)
        result = cached.again("-c", PROGRAM, wrap=ordinary_root, flags=["--explain"])
        assert result.archive_counts()[1:] == (0, 0)
        new = cached.again("-c", "import wave", wrap=ordinary_root, env={"PYLAUNCH_SEAL": "wait"})
        assert new.code == 0 and len(new.err.splitlines()) <= 1
    finally:
        cached.warm_cache.chmod(0o755)


def test_read_only_folder_without_an_archive(ours, ordinary_root):
    ours.warm_cache.mkdir()
    ours.warm_cache.chmod(0o555)
    try:
        runs_as_stock(ours, wrap=ordinary_root)
        assert list(ours.warm_cache.iterdir()) == []
    finally:
        ours.warm_cache.chmod(0o755)
    runs_as_stock(ours, warnings=0)
    is_healthy(ours)


def test_unreachable_folder(ours, ordinary_root):
    (ours.base / "shut").mkdir()
    ours.warm_cache = ours.base / "shut" / "cache"
    (ours.base / "shut").chmod(0)
    try:
        runs_as_stock(ours, wrap=ordinary_root)
    finally:
        (ours.base / "shut").chmod(0o755)


@pytest.mark.parametrize(
    "place", ["file", "below_a_file", "dangling", "loop", "dev_null", "proc", "long"]
)
def test_cache_folder_that_cannot_be(ours, place):
    base = ours.base
    (base / "file").write_text("not a folder")
    (base / "dangling").symlink_to("nowhere/at/all")
    (base / "loop").symlink_to("loop")
    ours.warm_cache = {
        "file": base / "file",
        "below_a_file": base / "file" / "deeper",
        "dangling": base / "dangling",
        "loop": base / "loop",
        "dev_null": Path("/dev/null"),
        "proc": Path("/proc/self/cache"),
        "long": base / ("x" * 300),
    }[place]
    runs_as_stock(ours)
    assert (base / "file").read_text() == "not a folder"


def test_archive_path_is_a_folder(cached):
    archive = archive_of(cached)
    archive.unlink()
    archive.mkdir()
    runs_as_stock(cached)


def test_lock_file_is_a_folder(cached):
    archive = archive_of(cached)
    lock = Path(f"{archive}.lock")
    lock.unlink(missing_ok=True)
    lock.mkdir()
    archive.write_bytes(b"broken")
    runs_as_stock(cached, warnings=1)


def test_no_home_and_no_cache_folder(run):
    env = {"HOME": None, "XDG_CACHE_HOME": None}
    launch = [x for x in run.launch() if not x.startswith("--cache")][
        : 1 if run.mode == "stock" else 3
    ]
    launch = [x for x in launch if not x.startswith(str(run.base))]
    code, out, err = finish(start([*launch, "-c", PROGRAM], run.env(env), run.base))
    assert (code, out.decode(), err) == (0, EXPECTED, b"")


def test_default_folder_follows_xdg(ours):
    launch = ours.launch()[:3]
    for env, folder in (
        ({"HOME": str(ours.base / "h")}, ours.base / "h/.cache/pylaunch"),
        ({"XDG_CACHE_HOME": str(ours.base / "x")}, ours.base / "x/pylaunch"),
        (
            {"XDG_CACHE_HOME": "relative", "HOME": str(ours.base / "i")},
            ours.base / "i/.cache/pylaunch",
        ),
    ):
        code, _, err = finish(
            start([*launch, "-c", PROGRAM], ours.env({**env, "PYLAUNCH_SEAL": "wait"}), ours.base)
        )
        assert (code, err) == (0, b"")
        assert len(archives(folder)) == 1
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not (ours.base / "relative").exists()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a size to choose; needs root."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    mounted = []

    def mount(size: str) -> Path:
        folder = tmp_path / f"disk-{size}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", folder]
        if subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("mount(2) is not allowed here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("size", ["4k", "64k", "300k"])
def test_full_disk(ours, small_disk, size):
    ours.warm_cache = small_disk(size)
    for _ in range(2):
        runs_as_stock(ours)
    # No half-written archive is left to fill the disk.
    wait_for_sealers()
    left = [p for p in ours.warm_cache.rglob("*") if p.is_file() and p.stat().st_size > 4096]
    assert left == []


def test_full_disk_keeps_the_old_archive(cached, small_disk):
    disk = small_disk("3m")
    shutil.copytree(cached.warm_cache, disk / "cache")
    cached.warm_cache = disk / "cache"
    with contextlib.suppress(OSError), (disk / "fill").open("wb") as file:
        while True:
            file.write(b"x" * 4096)
            file.flush()
    before = archive_of(cached).read_bytes()
    cached.again("-c", "import wave, xml.dom.minidom, sqlite3", env={"PYLAUNCH_SEAL": "wait"})
    assert archive_of(cached).read_bytes() == before
    is_healthy(cached)


# ---------------------------------------------------------------------------------------------- modes, variables, stats


def test_mode_off_neither_reads_nor_writes(ours):
    for _ in range(2):
        result = ours.again(
            "-c", PROGRAM, flags=["--cache-mode=off"], env={"PYLAUNCH_SEAL": "wait"}
        )
        assert result.out == EXPECTED
    assert archives(ours.warm_cache) == []


def test_mode_off_does_not_read(cached):
    archive_of(cached).write_bytes(b"broken")
    result = cached.again("-c", PROGRAM, flags=["--cache-mode=off"])
    assert (result.out, result.err) == (EXPECTED, "")


def test_mode_readonly_reads_but_never_writes(cached):
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in archives(cached.warm_cache)}
    flags = ["--cache-mode=readonly", "--explain"]
    result = cached.again(
        "-c", PROGRAM + "; import wave", flags=flags, env={"PYLAUNCH_SEAL": "wait"}
    )
    hits, misses, _ = result.archive_counts()
    assert hits > 50 and misses >= 1
    assert {
        p: (p.stat().st_mtime_ns, p.stat().st_size) for p in archives(cached.warm_cache)
    } == before


def test_mode_readonly_makes_no_folder(ours):
    result = ours.again(
        "-c", PROGRAM, flags=["--cache-mode=readonly"], env={"PYLAUNCH_SEAL": "wait"}
    )
    assert result.out == EXPECTED
    assert archives(ours.warm_cache) == []


def test_mode_refresh_starts_from_nothing(cached):
    flags = ["--cache-mode=refresh", "--explain"]
    result = cached.again("-c", "import json", flags=flags, env={"PYLAUNCH_SEAL": "wait"})
    assert result.archive_counts()[0] == 0
    result = cached.again("-c", PROGRAM, flags=["--explain"], env={"PYLAUNCH_SEAL": "wait"})
    assert result.archive_counts()[1] > 0  # What the program did not use this time is gone.
    is_healthy(cached)


@pytest.mark.parametrize("mode", ["sometimes", "", "OFF"])
def test_unknown_cache_mode(ours, mode):
    result = ours.again("-c", "print(1)", flags=[f"--cache-mode={mode}"])
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("pylaunch: error: ")


def test_variables_stand_for_flags(cached):
    launch = [str(cached.lab.pylaunch)]
    env = {
        "PYLAUNCH_PYTHON": str(cached.python),
        "PYLAUNCH_CACHE": str(cached.warm_cache),
        "PYLAUNCH_EXPLAIN": "1",
    }

    def go(*args, **more):
        process = start([*launch, *args], cached.env({**env, **more}), cached.base)
        code, out, err = finish(process)
        from conftest import Result

        return Result(code, out.decode(), err.decode())

    result = go("-c", PROGRAM)
    assert result.out == EXPECTED and result.archive_counts()[1:] == (0, 0)
    # A flag wins over its twin.
    other = go("--cache", str(cached.base / "other"), "-c", PROGRAM)
    assert other.archive_counts()[0] == 0
    off = go("-c", PROGRAM, PYLAUNCH_CACHE_MODE="off")
    assert off.out == EXPECTED and " 0 hits" in off.err + " 0 hits"
    on = go("--cache-mode=auto", "-c", PROGRAM, PYLAUNCH_CACHE_MODE="off")
    assert on.archive_counts()[0] > 50
    bad = go("-c", PROGRAM, PYLAUNCH_CACHE_MODE="sometimes")
    assert bad.code == 2 and "PYLAUNCH_CACHE_MODE" in bad.err
    quiet = go("-c", PROGRAM, PYLAUNCH_EXPLAIN="")
    assert quiet.err == ""
    stats = go("-c", PROGRAM, PYLAUNCH_STATS="1")
    assert ".pla" in stats.out + stats.err


@pytest.mark.parametrize("option", ["-E", "-I", "-IB", "-sE"])
def test_ignored_environment_covers_our_variables(cached, option):
    env = {
        "PYLAUNCH_EXPLAIN": "1",
        "PYLAUNCH_CACHE": str(cached.base / "other"),
        "PYLAUNCH_PRELOAD": "import no_such_module",
        "PYLAUNCH_CACHE_MODE": "nonsense",
        "PYLAUNCH_PYTHON": "/nonexistent/python",
    }
    result = cached.again(option, "-c", PROGRAM, env=env)
    assert (result.code, result.out, result.err) == (0, EXPECTED, "")
    assert not (cached.base / "other").exists()


def test_stats_name_archive_modules_and_sizes(cached):
    result = cached.again(flags=["--stats"])
    assert result.code == 0 and result.err == ""
    assert str(archive_of(cached)) in result.out
    assert re.search(r"modules\s+\d+", result.out)
    assert re.search(r"[\d.]+ (MiB|KiB|bytes)", result.out)
    python = ".".join(map(str, cached.lab.version))
    assert python in result.out


def test_stats_of_nothing_and_of_a_broken_archive(cached):
    archive_of(cached).write_bytes(b"broken")
    result = cached.again(flags=["--stats"])
    assert archive_of(cached).name in result.out + result.err
    shutil.rmtree(cached.warm_cache)
    result = cached.again(flags=["--stats"])
    assert str(cached.warm_cache) in result.out + result.err


def test_stats_as_json(cached):
    archive_of(cached).with_name("other.pla").write_bytes(b"broken")
    result = cached.again(flags=["--stats", "--json"])
    assert result.code == 1
    good, bad = result.json["archives"]
    assert good["path"] == str(archives(cached.warm_cache)[0]) and bad["usable"] is False
    assert good["modules"] > 50 and good["file_bytes"] == result.json["file_bytes"]
    assert abs(good["last_used"] - time.time()) < 1000


def test_verify_tells_good_from_bad(cached):
    good = cached.again(flags=["--verify"])
    assert (good.code, good.err) == (0, "")
    assert re.fullmatch(rf"✓ {archive_of(cached)}: \d+ modules, \d+ folders.*\n", good.out)
    archive = archive_of(cached)
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1  # In a frame.
    archive.write_bytes(data)
    bad = cached.again(flags=["--verify"])
    assert bad.code == 1
    assert bad.out.startswith(f"✗ {archive}\n  cause: {archive}: damaged archive: code of /")
    report = cached.again(flags=["--verify", "--json"])
    assert report.code == 1 and report.json["ok"] is False
    assert len(report.json["archives"][0]["wrong"]) == 1
    archive.write_bytes(b"broken")
    assert cached.again(flags=["--verify"]).out.startswith("✗ ")
    archive.unlink()
    assert cached.again(flags=["--verify"]).code == 0


def test_verify_counts_stale_modules_as_ordinary(ours, tree):
    tree.write({"m.py": "X = 1\n"})
    env = {"PYTHONPATH": str(tree), "PYLAUNCH_SEAL": "wait"}
    ours.prime(tree, "-c", "import m", env=env)
    tree.write({"m.py": "X = 10\n"})
    result = ours.again(flags=["--verify", "--json"])
    assert result.code == 0 and result.json["archives"][0]["stale_modules"] == 1


# ---------------------------------------------------------------------------------------------- its size has a bound


def make_archives(runner: Runner, count: int) -> list[Path]:
    """Archives, the last used first, of `count` hours of disuse."""
    source = archive_of(runner)
    made = [source]
    for hours in range(1, count):
        other = source.with_name(f"other-{hours}.pla")
        shutil.copy(source, other)
        os.utime(other, (time.time() - 3600 * hours,) * 2)
        made.append(other)
    return made


def test_prune_removes_what_was_used_longest_ago(cached):
    made = make_archives(cached, 4)
    size = made[0].stat().st_size
    result = cached.again(flags=["--prune", f"--cache-size={2 * size}", "--json"])
    assert result.code == 0, result.err
    assert [x["path"] for x in result.json["removed"]] == [str(made[3]), str(made[2])]
    assert archives(cached.warm_cache) == sorted(made[:2])
    assert result.json["bytes_after"] == 2 * size
    assert "removed" in cached.again(flags=["--prune", "--cache-size=1"]).out


def test_prune_never_removes_what_runs(cached):
    program = "import json, sys\nprint('ready', flush=True)\nsys.stdin.readline()\nimport decimal"
    launch = cached.launch(cached.warm_cache)
    process = start([*launch, "-c", program], cached.env(), cached.base, stdin=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    result = cached.again(flags=["--prune", "--cache-size=1"])
    assert result.code == 1 and "which is in use" in result.out
    assert finish(process, b"\n")[::2] == (0, b"")
    is_healthy(cached)
    assert cached.again(flags=["--prune", "--cache-size=1"]).code == 0
    assert list(cached.warm_cache.glob("*.pla*")) == []


def test_sealing_keeps_the_folder_within_its_bound(cached):
    made = make_archives(cached, 4)
    size = made[0].stat().st_size
    env = {"PYLAUNCH_SEAL": "wait", "PYLAUNCH_CACHE_SIZE": str(int(2.5 * size))}
    cached.again("-c", "import wave", env=env)
    assert archives(cached.warm_cache) == sorted(made[:2])
    is_healthy(cached)


# ---------------------------------------------------------------------------------------------- without asking the disk


def calls(runner: Runner, names: str, *args, **kwargs) -> list[str]:
    """The system calls of these names that a run makes."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    trace = runner.base / "trace"
    result = runner.again(
        *args, wrap=["strace", "-f", "-e", f"trace={names}", "-o", trace], **kwargs
    )
    assert result.code == 0, result.err
    return trace.read_text().splitlines()


def test_sealed_mode_asks_the_disk_for_nothing(cached, tree):
    tree.write({"pkg/__init__.py": "", "pkg/m.py": "X = 1\n"})
    env = {"PYTHONPATH": str(tree), "PYLAUNCH_SEAL": "wait"}
    build(cached, "pkg", env=env)
    program = "import pkg.m; print(pkg.m.X)"
    proved = calls(cached, "%file", "-c", program, env=env)
    sealed = calls(cached, "%file", "-c", program, env=env, flags=["--cache-mode=sealed"])
    assert [x for x in proved if f'"{tree}/pkg/m.py"' in x]
    # FileFinder's path hook alone, which asks whether that is a folder.
    asked = {re.search(r'"([^"]*)"', x)[1] for x in sealed if f'"{tree}/pkg' in x}
    assert asked <= {f"{tree}/pkg"}
    # Neither for any of the standard library's; by os.py CPython itself finds its prefix.
    assert library_sources(proved) > {"os.py"}
    assert library_sources(sealed) == {"os.py"}


METADATA = "stat,lstat,newfstatat,statx,access,faccessat,faccessat2,readlink,getdents64,openat"


@pytest.mark.parametrize("absent", ["", "import absent{0}", "from p{0} import absent"])
@pytest.mark.parametrize("count", [3, 100])
def test_a_long_path_costs_no_more_calls_than_stock(ours, tree, count, absent):
    """A hundred packages in twenty folders, all of them imported or the first of them; some try what is not there."""
    tree.write({f"d{i % 20}/p{i}/__init__.py": f"X = {i}\n" for i in range(100)})
    env = {
        "PYTHONPATH": ":".join(str(tree / f"d{i}") for i in range(20)),
        "PYLAUNCH_SEAL": "wait",
    }
    one = "import p{0}\ntry:\n    %s\nexcept ImportError: pass\n" % (absent or "pass")
    # With -c the working folder is the first.
    program = ["-c", "".join(one.format(i) for i in range(count))]
    ours.stock(*program, env=env)
    ours.again(*program, env=env)
    stock_trace = ours.base / "stock"
    wrap = ["strace", "-f", "-e", f"trace={METADATA}", "-o", stock_trace]
    mine = calls(ours, METADATA, *program, env=env)
    assert ours.stock(*program, env=env, wrap=wrap).code == 0
    stock = stock_trace.read_text().splitlines()
    assert len(mine) <= len(stock)


def library_sources(trace: list[str]) -> set[str]:
    return {found[1] for x in trace if (found := re.search(r'/lib/python3\.\d+/([\w/]+\.py)"', x))}


def test_sealed_mode_is_stock_for_what_the_archive_lacks(cached, tree):
    tree.write({"other/__init__.py": "X = 2\n", "ns/part.py": "X = 3\n"})
    env = {"PYTHONPATH": str(tree), "PYLAUNCH_SEAL": "wait"}
    program = f"import other, ns.part; print(other.X, ns.part.X); {PROGRAM}"
    before = archive_of(cached).read_bytes()
    result = cached.again("-c", program, env=env, flags=["--cache-mode=sealed"])
    assert (result.out, result.err) == (f"2 3\n{EXPECTED}", "")
    assert archive_of(cached).read_bytes() == before, "never written"
    shutil.rmtree(cached.warm_cache)
    result = cached.again("-c", PROGRAM, flags=["--cache-mode=sealed"])
    assert result.out == EXPECTED and len(result.warnings()) == 1


def test_invalidate_caches_ends_the_trust_in_sealed_folders(ours, tree):
    tree.write({"a.py": ""})
    env = {"PYTHONPATH": str(tree), "PYLAUNCH_SEAL": "wait"}
    build(ours, str(tree), env=env)
    program = (
        f"import a, importlib, pathlib; pathlib.Path({str(tree / 'b.py')!r}).write_text('X = 5')\n"
        "importlib.invalidate_caches(); import b; print(b.X)"
    )
    result = ours.again("-c", program, env=env, flags=["--cache-mode=sealed"])
    assert (result.out, result.err) == ("5\n", "")


# ---------------------------------------------------------------------------------------------- built ahead of time


def build(runner: Runner, *names, flags=(), **kwargs) -> dict:
    result = runner.again(*names, flags=["--build", "--json", *flags], **kwargs)
    assert result.code == 0, result.err
    return result.json


def test_build_stores_what_is_named(ours, tree):
    tree.write(
        {
            "pkg/__init__.py": "raise SystemExit('imported')",
            "pkg/sub/m.py": "X = 1\n",
            "pkg/bad.py": "def\n",
            "pkg/loud.py": "assert (1, 'always')\n",
            "pkg/data-1.py": "X\n",
            "lone.py": "Y = 2\n",
        }
    )
    env = {"PYTHONPATH": str(tree)}
    report = build(ours, "pkg", f"{tree}/lone.py", env=env)
    assert (report["built"], report["already_there"]) == (3, 0)
    left = {Path(x["path"]).name: x["why"] for x in report["left_to_python"]}
    assert left.keys() == {"bad.py", "loud.py"}
    assert left["bad.py"].startswith("SyntaxError") and left["loud.py"].startswith("SyntaxWarning")
    assert build(ours, "pkg", env=env)["already_there"] == 2
    assert not list(tree.root.rglob("*.pyc"))
    result = ours.again("-c", "import lone; print(lone.Y)", env=env, flags=["--explain"])
    assert result.out == "2\n" and result.archive_counts()[0] >= 1
    assert ours.again(flags=["--verify"]).code == 0


def test_build_of_everything_needs_nothing_more(ours, tree):
    """In an environment that is small enough for a test: no site-packages, a standard library of ten folders."""
    result = ours.again("-S", flags=["--build"])
    assert result.code == 0 and re.search(r": \d{3,} modules built, 0 already there", result.out)
    counts = ours.again("-S", "-c", PROGRAM, flags=["--explain"])
    assert counts.archive_counts()[1:] == (0, 0), counts.err


def test_build_with_preload_stores_what_that_imports(ours):
    report = build(ours, flags=["--preload", IMPORTS])
    assert "built" not in report
    is_healthy(ours)


def test_build_says_what_it_cannot_find(ours):
    for name in ("no.such.module", "./nowhere/", "json.nosuch"):
        result = ours.again(name, flags=["--build"])
        assert result.code == 2 and f"'{name}'" in result.err and "hint:" in result.err
    result = ours.again("json", flags=["--build", "--cache-mode=readonly"])
    assert result.code == 2 and "readonly" in result.err
    assert not ours.warm_cache.exists() or archives(ours.warm_cache) == []


@serial
def test_build_draws_a_bar_on_terminals_only(ours, tree):
    tree.write({f"pkg/m{i}.py": "X = 1\n" for i in range(40)})
    ours.mode = "cold"
    code, shown = ours.tty("--build", str(tree / "pkg"), script=[], env={"TERM": "xterm"})
    assert code == 0 and "40/40 modules" in shown
    assert ours.again(str(tree / "pkg"), flags=["--build"]).err == ""


def move_elsewhere(path: Path) -> None:
    """What unpacking a layer, or cloning, does: same bytes, another inode, other times."""
    for file in [*path.rglob("*.py")]:
        copy = file.with_name(file.name + ".new")
        copy.write_bytes(file.read_bytes())
        os.utime(copy, (time.time() - 5000,) * 2)
        copy.replace(file)


def test_built_archive_travels(ours, tree):
    tree.write({"pkg/__init__.py": "", **{f"pkg/m{i}.py": f"X = {i}\n" for i in range(20)}})
    env = {"PYTHONPATH": str(tree), "PYLAUNCH_SEAL": "wait", "PYTHONDONTWRITEBYTECODE": "1"}
    names = ", ".join(f"pkg.m{i}" for i in range(20))
    build(ours, "pkg", env=env)
    move_elsewhere(tree.root)
    tree.settle()
    program = f"import {names}; print(pkg.m7.X)"
    result = ours.again("-c", program, env=env, flags=["--explain"])
    assert result.out == "7\n" and "21 by digest" in result.err, result.err
    # And gets the stamps of its new place.
    result = ours.again("-c", program, env=env, flags=["--explain"])
    assert result.archive_counts()[1:] == (0, 0) and "by digest" not in result.err


def test_changed_source_is_not_proved_by_its_size(ours, tree):
    tree.write({"m.py": "X = 1\n"})
    env = {"PYTHONPATH": str(tree), "PYLAUNCH_SEAL": "wait", "PYTHONDONTWRITEBYTECODE": "1"}
    build(ours, f"{tree}/m.py", env=env)
    stamp = (tree / "m.py").stat()
    (tree / "m.py").write_text("X = 2\n")
    os.utime(tree / "m.py", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    for _ in range(2):
        result = ours.again("-c", "import m; print(m.X)", env=env)
        assert (result.out, result.err) == ("2\n", "")


def test_code_from_a_pyc_is_never_proved_by_digest(ours, tree):
    """A .pyc may be of other bytes of that time and size. Stock obeys it until the source's time changes; so do we."""
    tree.write({"m.py": "X = 1\n"})
    stamp = (tree / "m.py").stat()
    env = {"PYTHONPATH": str(tree), "PYLAUNCH_SEAL": "wait"}
    ours.stock("-c", "import m", env=env)
    (tree / "m.py").write_text("X = 2\n")
    os.utime(tree / "m.py", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    tree.settle()
    program = "import m; print(m.X)"
    for _ in range(2):
        assert ours.again("-c", program, env=env).out == ours.stock("-c", program, env=env).out
    os.utime(tree / "m.py", (time.time() - 50,) * 2)
    assert ours.again("-c", program, env={**env, "PYTHONDONTWRITEBYTECODE": "1"}).out == "2\n"


# ---------------------------------------------------------------------------------------------- one line


def test_explain_is_all_on_stderr(cached):
    result = cached.again("-c", PROGRAM, flags=["--explain"])
    assert result.out == EXPECTED
    assert all(x.startswith("pylaunch: explain: ") for x in result.err.splitlines())


# ---------------------------------------------------------------------------------------------- many at once, and ends


def test_sixteen_starts_at_once_on_an_empty_cache(ours):
    programs = [f"{PROGRAM}; import {m}" for m in ("wave", "csv", "sqlite3", "xml.dom.minidom")] * 4
    launch = ours.launch(ours.warm_cache)
    processes = [start([*launch, "-c", p], ours.env(), ours.base) for p in programs]
    for process in processes:
        code, out, err = finish(process)
        assert (code, out.decode(), err) == (0, EXPECTED, b"")
    wait_for_sealers(ours.warm_cache)
    is_healthy(ours)
    everything = "import wave, csv, sqlite3, xml.dom.minidom"
    result = ours.again("-c", everything, flags=["--explain"])
    assert result.archive_counts()[1:] == (0, 0), result.err
    assert len(archives(ours.warm_cache)) == 1
    assert [p for p in ours.warm_cache.iterdir() if "tmp" in p.name] == []


@serial
def test_killed_programs_leave_a_usable_cache(ours):
    launch = ours.launch(ours.warm_cache)
    for delay in (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12):
        process = start([*launch, "--preload", IMPORTS, "-c", PROGRAM], ours.env(), ours.base)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        finish(process)
    wait_for_sealers(ours.warm_cache)
    runs_as_stock(ours, warnings=0)
    is_healthy(ours)


@serial
def test_killed_sealers_leave_a_usable_cache(ours):
    launch = ours.launch(ours.warm_cache)
    killed = 0
    for delay in (0.0, 0.01, 0.03, 0.06, 0.1):
        finish(start([*launch, "-c", PROGRAM], ours.env(), ours.base))
        time.sleep(delay)
        for pid in sealers(ours.warm_cache):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
    runs_as_stock(ours, warnings=0)
    is_healthy(ours)
    # What killed sealers left behind does not pile up.
    assert len(list(ours.warm_cache.iterdir())) <= 4 + killed


HEAVY = "import sys; [__import__(m) for m in ('asyncio', 'email.mime.text', 'http.server', 'sqlite3', 'unittest.mock', 'xml.dom.minidom', 'multiprocessing.pool', 'csv')]"  # fmt: skip


@serial
@pytest.mark.parametrize("kernel", ["this one", "4.18"])
def test_caller_gets_its_output_at_once(ours, kernel):
    """`$(pylaunch …)` waits for every holder of the pipe; the sealer is none, nor of any other descriptor."""
    program = ROOT / "tests/programs/image_places/other_kernel.py"
    wrap = [] if kernel == "this one" else [sys.executable, program, kernel]
    for attempt in range(10):
        read, write = os.pipe()
        launch = [*wrap, *ours.launch(ours.base / f"cache-{attempt}"), "-c", HEAVY]
        process = start(launch, ours.env(), ours.base, pass_fds=[write])
        os.close(write)
        process.wait(60)
        caught = sealers(ours.base)
        for pid in caught:
            os.kill(pid, signal.SIGSTOP)
        pipes = [process.stdout, process.stderr, read]
        ended = [pipe for pipe in pipes if select.select([pipe], [], [], 2)[0]]
        for pid in caught:
            os.kill(pid, signal.SIGCONT)
        assert ended == pipes, "the sealer holds what the program had"
        os.close(read)
        if caught:
            return
    pytest.fail("no sealer was caught at work")


def test_sealer_is_nobodys_child(ours):
    program = (
        "import os, signal, time\n"
        "got = []\n"
        "signal.signal(signal.SIGCHLD, lambda *a: got.append(a[0]))\n"
        "try: print(os.wait())\n"
        "except ChildProcessError: print('no child')\n"
        "time.sleep(0.3); print(got)\n"
        "print(open('/proc/self/task/%d/children' % os.getpid()).read() if os.path.exists('/proc/self/task/%d/children' % os.getpid()) else '')\n"
    )
    result = ours.again("-c", program, flags=["--preload", IMPORTS])
    assert (result.out, result.err) == ("no child\n[]\n\n", "")


@serial
def test_no_process_stays_behind(ours):
    ours.again("-c", PROGRAM)
    wait_for_sealers(ours.warm_cache, timeout=20)
    marked = clean_environment(ours.lab.home)["HOME"].encode()
    left = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if b"HOME=" + marked in (entry / "environ").read_bytes().split(b"\0"):
                    left.append((entry / "cmdline").read_bytes())
    assert left == []


@serial
def test_sealer_survives_a_terminal_that_closes(ours):
    """It stands in a session of its own, so a hang-up or Ctrl-C for the job does not reach it."""
    process = start(
        [*ours.launch(ours.warm_cache), "-c", PROGRAM],
        ours.env(),
        ours.base,
        start_new_session=True,
    )
    group = process.pid
    finish(process)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGHUP)
    wait_for_sealers(ours.warm_cache)
    is_healthy(ours)


def test_program_under_a_small_file_size_limit(ours):
    """RLIMIT_FSIZE sends SIGXFSZ to who writes beyond: the program must not die of the archive."""
    wrap = ["sh", "-c", 'ulimit -f 8; exec "$@"', "sh"]
    runs_as_stock(ours, wrap=wrap)
    wait_for_sealers(ours.warm_cache)
    runs_as_stock(ours)
    is_healthy(ours)


def test_program_with_few_descriptors(ours):
    wrap = ["sh", "-c", 'ulimit -n 10; exec "$@"', "sh"]
    runs_as_stock(ours, wrap=wrap)
    runs_as_stock(ours, wrap=wrap)


def test_archive_replaced_while_programs_run(cached):
    """A running program keeps the archive that it has mapped."""
    program = (
        "import json, sys, time\nprint('ready', flush=True)\nsys.stdin.readline()\n"
        "import decimal, asyncio, email, http.client; print(decimal.Decimal(1) / 8)\n"
    )
    launch = cached.launch(cached.warm_cache)
    process = start([*launch, "-c", program], cached.env(), cached.base, stdin=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    cached.again("-c", "import wave", flags=["--cache-mode=refresh"], env={"PYLAUNCH_SEAL": "wait"})
    archive_of(cached).unlink()
    code, out, err = finish(process, b"\n")
    assert (code, out, err) == (0, b"0.125\n", b"")


@pytest.mark.parametrize(
    "end",
    [
        "",
        "sys.exit()",
        "sys.exit(3)",
        "raise SystemExit('told')",
        "raise KeyError(1)",
        "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
    ],
    ids=["end", "exit", "exit-code", "exit-text", "error", "interrupt"],
)
def test_what_was_imported_is_kept_however_the_program_ends(ours, tree, end):
    tree.write({"own.py": "value = 1\n"})
    program = f"import sys, own\n{end}"
    env = {"PYTHONPATH": str(tree), "PYLAUNCH_SEAL": "wait"}
    stock = ours.stock("-c", program, env=env)
    assert ours.again("-c", program, env=env) == stock
    result = ours.again("-c", program, env=env, flags=["--explain"])
    assert result.archive_counts()[1:] == (0, 0)
    assert result.without_pylaunch_lines() == stock
