# ruff: noqa: E501 - programs in strings read better on long lines.
"""--workers N: what each worker finds, where its output goes, who is started again, and that all end with their supervisor."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import (
    Result,
    alive,
    children,
    clean_environment,
    finish,
    serial,
    start,
    tty_session,
    wait_until,
)
from imaged import PYTHON

TELL = "import os, json, sys; print(json.dumps({k: v for k, v in os.environ.items()}), flush=True)"
RANKS = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"]
THREADS = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"]


class Workers:
    def __init__(self, lab, folder: Path):
        lab.need_pylaunch()
        self.lab, self.folder = lab, folder

    def argv(self, *args, python=None) -> list[str]:
        launch = [
            self.lab.pylaunch,
            "--python",
            python or self.lab.python,
            "--cache",
            self.folder / "cache",
        ]
        return [str(x) for x in (*launch, *args)]

    def env(self, **extra: str) -> dict[str, str]:
        return clean_environment(self.lab.home, **extra)

    def begin(self, *args, python=None, env=None, **kwargs) -> subprocess.Popen:
        return start(
            self.argv(*args, python=python), self.env(**(env or {})), self.folder, **kwargs
        )

    def __call__(self, *args, timeout: float = 60, **kwargs) -> Result:
        code, out, err = finish(self.begin(*args, **kwargs), timeout=timeout)
        return Result(
            code, out.decode(errors="surrogateescape"), err.decode(errors="surrogateescape")
        )


@pytest.fixture
def workers(lab, tmp_path) -> Workers:
    return Workers(lab, tmp_path)


def lines_of(text: str) -> dict[int, list[str]]:
    """Each worker's lines, which stand whole behind its prefix."""
    found: dict[int, list[str]] = {}
    for line in text.splitlines():
        known = re.fullmatch(r"\[(\d+)\] (.*)", line)
        assert known, f"a line of nobody's: {line!r}"
        found.setdefault(int(known[1]), []).append(known[2])
    return found


def environments(result: Result) -> dict[int, dict[str, str]]:
    return {k: json.loads(lines[0]) for k, lines in lines_of(result.out).items()}


# ------------------------------------------------------------------------------------------------------------ names


def test_each_worker_knows_its_number(workers):
    result = workers("--workers", "3", "-c", TELL)
    assert result.code == 0, result.err
    found = environments(result)
    assert sorted(found) == [0, 1, 2]
    for k, env in found.items():
        assert (
            env["PYLAUNCH_WORKER"],
            env["PYLAUNCH_WORKER_COUNT"],
            env["PYLAUNCH_WORKER_ATTEMPT"],
        ) == (str(k), "3", "0")
        assert "PYLAUNCH_WORKERS" not in env
        assert not set(RANKS) & set(env), (
            "transformers and Lightning would wait for a process group"
        )


def test_the_variable_does_as_the_option(workers):
    result = workers("-c", TELL, env={"PYLAUNCH_WORKERS": "2"})
    assert (result.code, sorted(environments(result))) == (0, [0, 1]), result.err
    assert all("PYLAUNCH_WORKERS" not in env for env in environments(result).values())


def test_auto_is_what_this_process_may_use(workers):
    result = workers("--workers=auto", "-c", TELL)
    assert (
        len(environments(result)) == len(os.sched_getaffinity(0))
        or Path("/sys/fs/cgroup/cpu.max").exists()
    )
    code, out, _ = finish(
        start(
            [
                "taskset",
                "-c",
                str(min(os.sched_getaffinity(0))),
                *workers.argv("--workers", "auto", "-c", TELL),
            ],
            workers.env(),
            workers.folder,
        )
    )
    assert (code, sorted(lines_of(out.decode()))) == (0, [0])


def test_distributed_names(workers):
    found = environments(workers("--workers", "2", "--distributed", "-c", TELL))
    for k, env in found.items():
        assert [env[name] for name in RANKS[:5]] == [str(k), str(k), "2", "2", "127.0.0.1"]
    assert found[0]["MASTER_PORT"] == found[1]["MASTER_PORT"] and int(found[0]["MASTER_PORT"]) > 0
    kept = environments(
        workers(
            "--workers",
            "1",
            "--distributed",
            "-c",
            TELL,
            env={"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"},
        )
    )
    assert (kept[0]["MASTER_ADDR"], kept[0]["MASTER_PORT"]) == ("10.0.0.1", "29500")


GLOO = """
import os, torch, torch.distributed as dist
dist.init_process_group("gloo")
x = torch.tensor([float(dist.get_rank() + 1)])
dist.all_reduce(x)
print(dist.get_rank(), dist.get_world_size(), x.item())
dist.destroy_process_group()
"""


def test_four_workers_reduce(workers):
    pytest.importorskip("torch")
    result = workers("--workers", "4", "--distributed", "-c", GLOO, python=PYTHON, timeout=120)
    assert result.code == 0, result.err
    assert lines_of(result.out) == {k: [f"{k} 4 10.0"] for k in range(4)}


# ----------------------------------------------------------------------------------------------- threads and GPUs


def test_processors_are_shared_out_among_threads(workers):
    result = workers("--workers", "2", "-c", TELL)
    each = str(max(1, len(os.sched_getaffinity(0)) // 2))
    for env in environments(result).values():
        assert {env[name] for name in THREADS} == {each}
    assert result.err.count("OMP_NUM_THREADS") == 1, "said once"


def test_threads_as_asked(workers):
    for env in environments(workers("--workers", "2", "--threads", "5", "-c", TELL)).values():
        assert {env[name] for name in THREADS} == {"5"}
    kept = workers("--workers", "2", "--threads", "keep", "-c", TELL)
    assert (
        not any(set(THREADS) & set(env) for env in environments(kept).values()) and kept.err == ""
    )
    own = workers("--workers", "2", "-c", TELL, env={"OMP_NUM_THREADS": "7"})
    assert {
        (env["OMP_NUM_THREADS"], env["MKL_NUM_THREADS"] != "7")
        for env in environments(own).values()
    } == {("7", True)}


def test_gpus_are_dealt_out(workers):
    gpus = {"CUDA_VISIBLE_DEVICES": "0,3,GPU-ab,5,6"}
    found = environments(workers("--workers", "2", "--gpus-per-worker", "2", "-c", TELL, env=gpus))
    assert {k: env["CUDA_VISIBLE_DEVICES"] for k, env in found.items()} == {0: "0,3", 1: "GPU-ab,5"}
    none = workers("--workers", "3", "--gpus-per-worker", "2", "-c", TELL, env=gpus)
    assert (none.code, none.out) == (2, "")
    assert "want 6 GPUs, and 5 are visible" in none.err and "  hint:  " in none.err


# ------------------------------------------------------------------------------------------------------------- output

WRITES = """
import os, random, sys
k = int(os.environ["PYLAUNCH_WORKER"])
rng = random.Random(k)
for stream, name in ((1, "out"), (2, "err")):
    text = "".join(f"{name}{k}." + "x" * rng.choice([0, 3, 60, 5000, 70_000]) + "\\n" for _ in range(200)).encode()
    while text:
        n = rng.randrange(1, 40_000)
        os.write(stream, text[:n])
        text = text[n:]
"""


def written(k: int, name: str, rng) -> list[str]:
    lines = [f"{name}{k}." + "x" * rng.choice([0, 3, 60, 5000, 70_000]) for _ in range(200)]
    size = sum(len(line) + 1 for line in lines)
    while size > 0:
        size -= rng.randrange(1, 40_000)
    return lines


def test_lines_stay_whole(workers):
    import random

    result = workers("--workers", "6", "--threads", "keep", "-c", WRITES)
    assert result.code == 0
    out, err = lines_of(result.out), lines_of(result.err)
    for k in range(6):
        rng = random.Random(k)
        assert out[k] == written(k, "out", rng)
        assert err[k] == written(k, "err", rng)


def test_bytes_are_bytes(workers):
    """No encoding is assumed, and a last line without an end gets one."""
    program = r"import os; os.write(1, b'\xff\x00 a\n\nb'); os.write(2, b'half')"
    process = workers.begin("--workers", "1", "-c", program)
    assert finish(process) == (0, b"[0] \xff\x00 a\n[0] \n[0] b\n", b"[0] half\n")


def test_progress_bars_are_seen_while_they_move(workers):
    program = "import sys, time\nfor i in range(5): sys.stderr.write(f'\\r{i}0%'); sys.stderr.flush()\nsys.stdin.read(); time.sleep(60)"
    process = workers.begin("--workers", "2", "--threads", "keep", "-c", program, text=False)
    seen = bytearray()
    while seen.count(b"30%") < 2:  # The fifth one may become "\\r\\n".
        seen += os.read(process.stderr.fileno(), 1000)
    process.kill()
    process.communicate()
    assert seen.count(b"[0] ") >= 4 and seen.count(b"[1] ") >= 4


def test_no_prefix(workers):
    result = workers(
        "--workers",
        "2",
        "--threads",
        "keep",
        "--no-prefix",
        "-c",
        "import os, sys; print('a', os.environ['PYLAUNCH_WORKER']); print('b', file=sys.stderr)",
    )
    assert (result.code, sorted(result.out.splitlines()), result.err) == (
        0,
        ["a 0", "a 1"],
        "b\nb\n",
    )


def test_logs_in_a_folder(workers):
    program = "import os, sys; k = os.environ['PYLAUNCH_WORKER']; a = int(os.environ['PYLAUNCH_WORKER_ATTEMPT']); print('out', k, a); print('err', k, a, file=sys.stderr); sys.exit(a == 0 and k == '1')"
    result = workers(
        "--workers",
        "2",
        "--threads",
        "keep",
        "--log-dir",
        "logs/run",
        "--restart",
        "on-failure:1",
        "-c",
        program,
    )
    assert (result.code, result.out) == (0, "")
    logs = workers.folder / "logs/run"
    assert {str(x.relative_to(logs)): x.read_text() for x in logs.rglob("*.log")} == {
        f"{k}/{a}/std{name}.log": f"{name} {k} {a}\n"
        for k, a in ((0, 0), (1, 0), (1, 1))
        for name in ("out", "err")
    }
    assert "worker 1 failed: exit code 1" in result.err and "  | err 1 0\n" in result.err


@serial
def test_a_hundred_megabytes_a_second(workers):
    """Also when the reader is slow at times, nothing is lost."""
    program = "import os\nline = b'y' * 99 + b'\\n'\nblock = line * 10_000\nfor _ in range(100): os.write(1, block)"
    process = workers.begin("--workers", "2", "--threads", "keep", "-c", program)
    counts, rest, begun = {b"[0]": 0, b"[1]": 0}, b"", time.monotonic()
    for i in range(10**9):
        block = os.read(process.stdout.fileno(), 1 << 20)
        if not block:
            break
        if i % 200 == 0:
            time.sleep(0.01)
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            assert len(line) == 103 and line.endswith(b"y" * 99)
            counts[line[:3]] += 1
    seconds = time.monotonic() - begun
    assert process.wait() == 0 and rest == b""
    assert counts == {b"[0]": 1_000_000, b"[1]": 1_000_000}
    assert seconds < 20, f"200 MB took {seconds:.1f} s"


def test_who_reads_no_more_stops_nobody(workers):
    """As in `pylaunch ... | head -1`: the workers go on, and what they write is lost."""
    program = "import os, time\nfor i in range(200): os.write(1, b'z' * 10_000 + b'\\n')\nopen('done' + os.environ['PYLAUNCH_WORKER'], 'w')"
    process = workers.begin("--workers", "2", "-c", program, stderr=subprocess.DEVNULL)
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(60) == 0
    assert (workers.folder / "done0").exists() and (workers.folder / "done1").exists()


def test_a_reader_that_stops_does_not_stop_signals(workers):
    program = "import os\nwhile True: os.write(1, b'z' * 1000 + b'\\n')"
    process = workers.begin(
        "--workers", "2", "--grace", "1", "-c", program, stderr=subprocess.DEVNULL
    )
    process.stdout.read(100_000)
    process.send_signal(signal.SIGTERM)
    wait_until(
        lambda: len(children(children(process.pid)[0])) == 0 if children(process.pid) else True,
        "the workers' end",
        10,
    )
    process.stdout.close()
    assert process.wait(20) == 128 + signal.SIGTERM


# ------------------------------------------------------------------------------------------------------ ends and restarts


def test_exit_code_is_the_highest(workers):
    program = "import os, sys, signal; k = int(os.environ['PYLAUNCH_WORKER'])\nif k == 2: os.kill(os.getpid(), signal.SIGKILL)\nsys.exit([0, 3, 0, 7][k])"
    result = workers("--workers", "4", "-c", program)
    assert result.code == 128 + signal.SIGKILL
    assert (
        "worker 1 failed: exit code 3 after" in result.err
        and "worker 3 failed: exit code 7 after" in result.err
    )
    assert "worker 2 failed: killed by signal 9 (SIGKILL) after" in result.err
    assert workers("--workers", "2", "-c", "pass").code == 0


def test_a_failure_shows_the_end_of_stderr(workers):
    result = workers(
        "--workers",
        "1",
        "-c",
        "import sys\nprint('first', file=sys.stderr)\nraise ValueError('that is why')",
    )
    assert result.code == 1
    report = result.err[result.err.index("pylaunch: worker 0 failed: exit code 1 after") :]
    assert report.rstrip().endswith("  | ValueError: that is why")


def test_restart_on_failure_until_it_is_well(workers):
    program = "import os, sys, time; print(os.environ['PYLAUNCH_WORKER_ATTEMPT'], time.monotonic(), flush=True); sys.exit(int(os.environ['PYLAUNCH_WORKER_ATTEMPT']) < 2)"
    result = workers("--workers", "1", "--restart", "on-failure", "-c", program)
    assert result.code == 0, result.err
    attempts, times = zip(*(line.split() for line in lines_of(result.out)[0]), strict=True)
    assert attempts == ("0", "1", "2")
    gaps = [float(b) - float(a) for a, b in itertools.pairwise(times)]
    assert 1 <= gaps[0] < 2 and 2 <= gaps[1] < 3.5, gaps


def test_restarts_have_a_bound(workers):
    result = workers(
        "--workers",
        "2",
        "--restart",
        "on-failure:1",
        "-c",
        "import os, sys; print('ran'); sys.exit(4 * int(os.environ['PYLAUNCH_WORKER']))",
    )
    assert (result.code, lines_of(result.out)) == (4, {0: ["ran"], 1: ["ran", "ran"]})
    always = workers("--workers", "1", "--restart", "always:1", "-c", "print('ran')")
    assert (always.code, lines_of(always.out)) == (0, {0: ["ran", "ran"]})


def test_one_fails_and_the_others_go_on_or_are_stopped(workers):
    program = "import os, sys, time\nif os.environ['PYLAUNCH_WORKER'] == '0': sys.exit(3)\ntime.sleep({})\nprint('whole')"
    on = workers("--workers", "2", "-c", program.format(1))
    assert (on.code, lines_of(on.out)) == (3, {1: ["whole"]})
    begun = time.monotonic()
    stop = workers("--workers", "3", "--on-failure", "stop", "-c", program.format(50))
    assert (stop.code, stop.out) == (3, ""), "those that were stopped for it do not count"
    assert time.monotonic() - begun < 20


def test_json_has_a_record_of_each(workers):
    result = workers(
        "--workers",
        "2",
        "--json",
        "-c",
        "import os, sys; sys.exit(5 * int(os.environ['PYLAUNCH_WORKER']))",
    )
    records = [json.loads(line) for line in result.out.splitlines()]
    for record in records:
        assert 0 < record.pop("seconds") < 60
    assert records == [
        {"worker": 0, "exit_code": 0, "signal": None, "attempts": 1, "stopped": False},
        {"worker": 1, "exit_code": 5, "signal": None, "attempts": 1, "stopped": False},
    ]


def test_bad_values_start_nothing(workers):
    ran = workers.folder / "ran"
    program = f"open({str(ran)!r}, 'w')"
    for flags in (
        ["--workers", "0"], ["--workers", "many"], ["--workers=-1"], ["--workers", "1e3"], ["--workers", "99999"],
        ["--workers", "2", "--restart", "sometimes"], ["--workers", "2", "--restart", "never:3"], ["--workers", "2", "--grace", "soon"],
        ["--workers", "2", "--threads", "0"], ["--workers", "2", "--stdin-to", "2"], ["--workers", "2", "--on-failure", "cry"],
        ["--workers", "2", "--gpus-per-worker", "1"], ["--restart", "always"], ["--log-dir", "x"],
    ):  # fmt: skip
        result = workers(*flags, "-c", program, env={"CUDA_VISIBLE_DEVICES": ""})
        assert (result.code, result.out) == (2, ""), flags
        assert result.err.startswith("pylaunch: error: ") and "  hint:  " in result.err, (
            flags,
            result.err,
        )
    assert not ran.exists()


# ------------------------------------------------------------------------------------------------------------ signals

WAITS = """
import os, signal, sys, time
def note(number, frame):
    print("got", signal.Signals(number).name, flush=True)
    if number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): sys.exit(0)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGRTMIN + 1): signal.signal(number, note)
open("ready" + os.environ["PYLAUNCH_WORKER"], "w").close()
while True: time.sleep(100)
"""


def begin_and_wait(workers, count: int, *flags, program=WAITS, **kwargs) -> subprocess.Popen:
    process = workers.begin(
        "--workers", str(count), "--threads", "keep", *flags, "-c", program, **kwargs
    )
    wait_until(
        lambda: all((workers.folder / f"ready{k}").exists() for k in range(count)),
        "workers are ready",
    )
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_that_end_are_passed_on(workers, number):
    process = begin_and_wait(workers, 2)
    process.send_signal(number)
    code, out, err = finish(process)
    assert (code, lines_of(out.decode())) == (0, {k: [f"got {number.name}"] for k in range(2)}), err


def test_other_signals_are_passed_on(workers):
    process = begin_and_wait(workers, 2)
    others = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH]
    for number in others:
        process.send_signal(number)
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    code, out, _ = finish(process)
    told = [f"got {number.name}" for number in (*others, signal.SIGTERM)]
    assert (code, lines_of(out.decode())) == (0, {0: told, 1: told})


def test_what_was_ignored_stays_ignored(workers):
    """As under nohup."""
    process = begin_and_wait(
        workers, 1, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    code, out, _ = finish(process)
    assert (code, lines_of(out.decode())) == (0, {0: ["got SIGTERM"]})


DEAF = """
import os, signal, subprocess, time
for number in (signal.SIGTERM, signal.SIGINT): signal.signal(number, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "300"], start_new_session=True)
open("child" + os.environ["PYLAUNCH_WORKER"], "w").write(str(child.pid))
open("ready" + os.environ["PYLAUNCH_WORKER"], "w").close()
time.sleep(300)
"""


def deaf_children(workers, count: int) -> list[int]:
    return [int((workers.folder / f"child{k}").read_text()) for k in range(count)]


def test_who_does_not_end_in_time_is_killed(workers):
    process = begin_and_wait(workers, 2, "--grace", "1", program=DEAF)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process)
    assert code == 128 + signal.SIGKILL and 1 <= time.monotonic() - begun < 5
    assert "2 workers have not ended within 1 s and are killed" in err.decode()
    wait_until(
        lambda: not any(map(alive, deaf_children(workers, 2))), "their children are dead, too", 1
    )


def test_a_second_interrupt_kills_at_once(workers):
    process = begin_and_wait(workers, 2, program=DEAF)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert finish(process, timeout=3)[0] == 128 + signal.SIGKILL
    wait_until(
        lambda: not any(map(alive, deaf_children(workers, 2))), "their children are dead, too", 1
    )


@pytest.mark.parametrize("who", ["started", "supervisor"])
def test_no_orphan_when_one_of_us_is_killed(workers, who):
    """Not even a worker's child in a session of its own."""
    process = begin_and_wait(workers, 3, program=DEAF)
    (supervisor,) = children(process.pid)
    all_of_them = [*children(supervisor), *deaf_children(workers, 3)]
    assert len(all_of_them) == 6 and all(map(alive, all_of_them))
    os.kill(process.pid if who == "started" else supervisor, signal.SIGKILL)
    wait_until(lambda: not any(map(alive, [*all_of_them, supervisor])), "nobody is left", 1)
    process.communicate()


def test_no_restart_while_it_stops(workers):
    program = WAITS.replace("sys.exit(0)", "sys.exit(3)")
    process = begin_and_wait(workers, 2, "--restart", "always", program=program)
    process.send_signal(signal.SIGTERM)
    code, out, _ = finish(process, timeout=10)
    assert (code, lines_of(out.decode())) == (3, {k: ["got SIGTERM"] for k in range(2)})


# ------------------------------------------------------------------------------------------------------------- terminal


def test_status_line_on_a_terminal(workers):
    code, screen = tty_session(
        workers.argv("--workers", "2", "-c", "import time; time.sleep(1.2); print('said')"),
        workers.env(),
        workers.folder,
        [],
    )
    assert code == 0
    assert "2 running, 0 done, 0 failed" in screen
    assert re.search(r"\[0\] said\r\n", screen) and re.search(r"\[1\] said\r\n", screen)
    assert (
        re.sub(r"\r\x1b\[K[^\r\n]*(?=\r\x1b\[K)", "", screen)
        .replace("\r\x1b[K", "")
        .count("running")
        == 0
    ), "it is gone at the end"


def test_interrupt_from_a_terminal_comes_once(workers):
    program = "import time, os\ntry: print('go', flush=True); time.sleep(60)\nexcept KeyboardInterrupt: print('stopped', flush=True); time.sleep(1); print('in peace', flush=True)"
    for flags in ([], ["--stdin-to", "0"]):
        code, screen = tty_session(
            workers.argv("--workers", "1", *flags, "-c", program),
            workers.env(),
            workers.folder,
            [("go", "\x03")],
        )
        assert code == 0, screen
        assert screen.count("stopped") == 1 and "in peace" in screen


def test_standard_input(workers):
    program = "import sys, os; print(repr(sys.stdin.read()))"
    process = workers.begin(
        "--workers",
        "2",
        "--threads",
        "keep",
        "--stdin-to",
        "1",
        "-c",
        program,
        stdin=subprocess.PIPE,
    )
    code, out, _ = finish(process, b"for one")
    assert (code, lines_of(out.decode())) == (0, {0: ["''"], 1: ["'for one'"]})


# ---------------------------------------------------------------------------------------------------------- cost and image


def memory_kib(pid: int) -> int:
    return int(
        re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1]
    )


@serial
def test_hundreds_of_workers_cost_little(workers):
    program = "import os, time\nopen('ready' + os.environ['PYLAUNCH_WORKER'], 'w')\ntime.sleep(300)"
    process = begin_and_wait(workers, 64, program=program)
    (supervisor,) = children(process.pid)
    assert sum(map(memory_kib, (process.pid, supervisor))) <= 4 << 10
    ticks = [
        sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        for pid in (process.pid, supervisor)
    ]
    time.sleep(1)
    after = [
        sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        for pid in (process.pid, supervisor)
    ]
    assert after == ticks, "idle, it uses no processor"
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 128 + signal.SIGTERM


@serial
@pytest.mark.slow  # 14 s for 512.
@pytest.mark.parametrize("count", [96, 512])
def test_as_many_workers_as_one_likes(workers, count):
    program = "import os; print(os.environ['PYLAUNCH_WORKER'])"
    result = workers("--workers", str(count), "-c", program, timeout=120)
    assert result.code == 0, result.err[-2000:]
    assert lines_of(result.out) == {k: [str(k)] for k in range(count)}


def test_the_first_worker_makes_the_image_and_the_others_start_from_it(workers):
    flags = ["--image", "--preload=import decimal, json", "--explain", "--workers", "4"]
    program = "import sys; print('decimal' in sys.modules)"
    first = workers(*flags, "-c", program)
    assert (first.code, lines_of(first.out)) == (0, {k: ["True"] for k in range(4)}), first.err
    told = {
        k: "\n".join(lines)
        for k, lines in lines_of(
            "\n".join(x for x in first.err.splitlines() if x.startswith("["))
        ).items()
    }
    assert "image: being made" in told[0]
    for k in (1, 2, 3):
        assert re.search(r"^pylaunch: explain: image: /.*\.img$", told[k], re.M), told[k]
    assert "the image of worker 0 is made" in first.err
    again = workers(*flags, "-c", program)
    told = lines_of("\n".join(x for x in again.err.splitlines() if x.startswith("[")))
    assert all(
        any(re.fullmatch(r"pylaunch: explain: image: /.*\.img", x) for x in told[k])
        for k in range(4)
    )


def test_where_no_image_can_be_made_nobody_waits_for_it(workers):
    flags = ["--image", "--preload=import one", "--explain", "--workers", "3"]
    (workers.folder / "one.py").write_text("import socket; s = socket.socket()")
    result = workers(*flags, "-c", "print('ran')", env={"PYTHONPATH": str(workers.folder)})
    assert (result.code, lines_of(result.out)) == (0, {k: ["ran"] for k in range(3)}), result.err


def test_workers_draw_different_numbers(workers):
    """From one image, too: numpy, random, and what a sampler without a seed asks for first."""
    pytest.importorskip("numpy")
    program = "import random, os, numpy, uuid; print(random.random(), numpy.random.rand(), numpy.random.default_rng().random(), uuid.uuid4(), os.urandom(4).hex())"
    flags = ["--image", "--preload=import numpy, random, uuid", "--workers", "4"]
    seen = []
    for _ in range(2):
        result = workers(*flags, "-c", program, python=PYTHON)
        assert result.code == 0, result.err
        seen += [line[0].split() for line in lines_of(result.out).values()]
    for column in zip(*seen, strict=True):
        assert len(set(column)) == 8, column


def test_tools_take_no_workers(workers):
    result = workers("--stats", env={"PYLAUNCH_WORKERS": "3"})
    assert result.code == 0 and "[" not in result.out.splitlines()[0]
