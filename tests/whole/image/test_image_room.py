# ruff: noqa: E501 - programs in strings read better on long lines.
"""No start fails because an image is being made: where memory, address space or disk would not do, none is, and it is said."""

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Result, Tree, start
from imaged import RACY, Imaged, restored, why_not_made

MIB = 1 << 20
# What preloading has of its own, in MiB, beside some ten of Python's. No page is empty, none like another.
OWN = 100
BIG = f"""
import random
held, random_bytes = bytearray({OWN * MIB}), random.Random(1).randbytes({MIB})
for at in range(0, len(held), {MIB}): held[at : at + {MIB}] = random_bytes
for page in range(0, len(held), 4096):
    held[page : page + 8] = page.to_bytes(8, "little")
"""
# Touches all of it at once, while the image is being made.
WRITES = "import big\nfor page in range(0, len(big.held), 4096): big.held[page] = 1\nprint(len(big.held))"
NO_ROOM = r"no room for an image: it may take (\d+) MiB(?: of memory)?, and (.*) leaves (\d+) MiB"


def limited_group(root: Path, name: str, limit: int):
    """A control group of version 1 or 2; None where nobody may make one."""
    first = root / "memory"
    top = first if first.is_dir() else root
    with contextlib.suppress(OSError):
        group = top / f"pylaunch-test-{os.getpid()}-{name}"
        group.mkdir()
        with contextlib.suppress(OSError):
            (group / ("memory.swap.max" if top is root else "memory.swappiness")).write_text("0")
        try:
            file = "memory.limit_in_bytes" if top is first else "memory.max"
            (group / file).write_text(str(limit))
        except OSError:
            group.rmdir()
            return None
        return group
    return None


class Groups:
    def __init__(self):
        self.made: list[Path] = []

    def __call__(self, mib: int) -> Path:
        group = limited_group(Path("/sys/fs/cgroup"), str(len(self.made)), mib * MIB)
        if group is None:
            pytest.skip("no control groups can be made here")
        self.made.append(group)
        return group

    def end(self) -> None:
        for group in self.made:
            for _ in range(100):
                for pid in (group / "cgroup.procs").read_text().split():
                    with contextlib.suppress(OSError):
                        os.kill(int(pid), signal.SIGKILL)
                try:
                    group.rmdir()
                    break
                except OSError:
                    time.sleep(0.05)


@pytest.fixture
def groups():
    made = Groups()
    yield made
    made.end()


@pytest.fixture
def big(lab, tmp_path):
    lab.need_pylaunch()
    lib = Tree(tmp_path / "lib").write({"big.py": BIG})
    image = Imaged(lab, tmp_path / "image")
    env = {"PYTHONPATH": str(lib)}

    def run(*options, wrap=(), program=WRITES, wait=True, **kwargs) -> Result:
        waiting = {} if wait else {"PYLAUNCH_SEAL": "go on"}
        return image(*options, "-c", program, preload=["import big"], env={**env, **waiting}, wrap=wrap, **kwargs)  # fmt: skip

    run.image = image
    time.sleep(RACY)
    return run


def inside(group: Path) -> list[str]:
    return ["sh", "-c", f'echo $$ >{group}/cgroup.procs; exec "$@"', "sh"]


def kills(group: Path) -> int:
    """How often the kernel has killed there."""
    for name in ("memory.events", "memory.oom_control"):
        if (group / name).exists():
            return int(re.search(r"^oom_kill (\d+)", (group / name).read_text(), re.M)[1])
    return 0


def settled(image: Imaged) -> None:
    """Returns when nobody is making an image any more."""
    deadline = time.monotonic() + 60
    while image.images("*.tmp") or [x for x in image.images("*.note") if "ended before" in x.read_text()]:  # fmt: skip
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("wait", [True, False], ids=["waited for", "beside the program"])
@pytest.mark.parametrize("more", [20, 60, 120, 200, 320])
def test_in_a_limited_group_the_program_runs(big, groups, more, wait):
    group = groups(OWN + more)
    expected = big.image.stock("-c", WRITES, env={"PYTHONPATH": str(big.image.folder.parent / "lib")}, wrap=inside(group))  # fmt: skip
    assert expected.code == 0, expected.err
    first = big(wrap=inside(group), wait=wait)
    settled(big.image)
    assert (first.code, first.out) == (0, expected.out), first.err
    assert kills(group) == 0
    if "being made" in first.err:
        assert more > 100, "by luck"
        again = big(wrap=inside(group))
        assert restored(again) and again.out == expected.out
    else:
        needed, limit, left = re.fullmatch(NO_ROOM, why_not_made(first)).groups()
        assert int(left) < int(needed) and str(group) in limit
        again = big(wrap=inside(group))
        assert "tried again an hour after that" in again.err and again.out == expected.out
        assert not big.image.images()
        built = big("--image-build", wrap=inside(group))
        assert built.code == 1 and "no room for an image" in built.err
    assert not big.image.images("*.tmp") and kills(group) == 0


def test_a_group_with_room_is_enough(big, groups):
    group = groups(OWN * 4)
    assert "being made" in big(wrap=inside(group)).err
    assert restored(big(wrap=inside(group)))


@pytest.mark.parametrize("room", range(0, 400, 40))
def test_limited_address_space(big, room):
    """What suffices for the archive path suffices for making an image, and for a start from one."""
    argv = [x for x in big.image.argv("-c", WRITES, preload=["import big"]) if x != "--image"]
    env = big.image.env({"PYTHONPATH": str(big.image.folder.parent / "lib")})
    limit = ["prlimit", f"--as={(OWN + 40 + room) * MIB}"]
    plain = subprocess.run([*limit, *argv], env=env, cwd=big.image.cwd, capture_output=True, text=True)  # fmt: skip
    if plain.returncode != 0:
        pytest.skip("not enough for the program itself")
    for _ in range(2):
        run = big(wrap=limit)
        assert (run.code, run.out) == (0, plain.stdout), run.err
    assert not big.image.images("*.tmp")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize("mib", [40, 150, 400])
def test_a_full_disk_costs_no_start(big, mib):
    cache = big.image.cache
    cache.mkdir(parents=True)
    mounted = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size={mib}m none {cache}; "$@" && "$@"; ls -R {cache}', "sh"]  # fmt: skip
    run = big(wrap=mounted, program="print('runs')")
    assert run.out.startswith("runs\nruns\n"), run.err
    assert ".tmp" not in run.out
    assert (".img" in run.out) == (mib == 400), run.err
    if mib != 400:
        assert f"the disk of {cache}/images leaves" in run.err


def capturing(image: Imaged) -> int | None:
    """Who writes an image."""
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            links = [os.readlink(x) for x in Path("/proc", entry, "fd").iterdir()]
            if any(x.startswith(f"{image.cache}/images/") and x.endswith(".tmp") for x in links):
                return int(entry)
    return None


def test_who_writes_is_killed_first_and_leaves_nothing_and_nobody_tries_again_at_once(big):
    image = big.image
    argv = image.argv("-c", "import time; time.sleep(60)", preload=["import big"], explain=False)
    env = {**image.env(), "PYTHONPATH": str(image.folder.parent / "lib")}
    del env["PYLAUNCH_SEAL"]
    process = start(argv, env, image.cwd)
    try:
        deadline = time.monotonic() + 60
        while (pid := capturing(image)) is None or not image.images("*.note"):
            assert time.monotonic() < deadline
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"
        assert Path(f"/proc/{process.pid}/oom_score_adj").read_text() != "1000\n"
        os.kill(pid, signal.SIGKILL)
        while os.path.exists(f"/proc/{pid}"):
            assert time.monotonic() < deadline
        assert process.poll() is None  # Nobody notices.
    finally:
        process.kill()
        process.communicate()
    assert image.images("*.tmp") and not image.images()
    again = big()
    assert "ended before it was done; tried again an hour after that" in again.err
    assert not image.images("*.tmp") and not image.images() and "being made" not in again.err
    (note,) = image.images("*.note")
    hour_ago = time.time() - 3700
    os.utime(note, (hour_ago, hour_ago))
    assert "being made" in big().err
    assert not image.images("*.note") and restored(big())


def test_a_start_beside_one_that_makes_an_image_does_not_take_it_for_killed(big):
    image = big.image
    argv = image.argv("-c", "pass", preload=["import big"], explain=False)
    env = {**image.env(), "PYTHONPATH": str(image.folder.parent / "lib")}
    process = start(argv, env, image.cwd)
    deadline = time.monotonic() + 60
    while (pid := capturing(image)) is None:
        assert time.monotonic() < deadline
    os.kill(pid, signal.SIGSTOP)
    try:
        beside = big(wait=False)
        assert "image: none yet" in beside.err and beside.code == 0
        assert image.images("*.tmp")
    finally:
        os.kill(pid, signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode == 0 and restored(big())


def test_the_capturing_process_owns_no_more_than_a_tenth(lab, tmp_path):
    """Of what the program has: what preloading left is read, and not written to."""
    lab.need_pylaunch()
    source = "import json\nheld = [{'a': [i], 'b': (i, [])} for i in range(400_000)]\n"
    lib = Tree(tmp_path / "lib").write({"many.py": source})
    image = Imaged(lab, tmp_path / "image")
    time.sleep(RACY)
    argv = image.argv("-c", "import time; time.sleep(60)", preload=["import many"], explain=False)
    env = {**image.env(), "PYTHONPATH": str(lib)}
    del env["PYLAUNCH_SEAL"]
    process = start(argv, env, image.cwd)
    most, own = 0, 0
    deadline = time.monotonic() + 60
    while not image.images("*.key"):
        assert time.monotonic() < deadline and process.poll() is None
        with contextlib.suppress(OSError, TypeError, AttributeError):
            pid = capturing(image)
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            most = max(most, int(re.search(r"Private_Dirty: +(\d+)", text)[1]))
            status = Path(f"/proc/{process.pid}/status").read_text()
            own = max(own, int(re.search(r"RssAnon:\s+(\d+)", status)[1]))
    process.kill()
    process.communicate()
    assert own > 100 << 10, own
    assert most < own / 10, (most, own)
