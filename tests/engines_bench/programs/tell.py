"""What the programs of engines call. They have it by PYTHONPATH, under stock as well."""

import json
import os
import sys
import time


def _now() -> int:
    """Nanoseconds, of the clock that all processes share."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def _write(record: dict) -> None:
    line = json.dumps(record).encode() + b"\n"
    file = os.open(os.environ["ENGINES_TOLD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, line)
    os.close(file)


def _private() -> int:
    with open("/proc/self/smaps_rollup") as file:
        return sum(1024 * int(x.split()[1]) for x in file if x.startswith("Private_"))


def for_workers() -> None:
    """Sets what is to hold for workers only: they inherit it, and this process began without."""
    for name, value in list(os.environ.items()):
        if name.startswith("FOR_WORKERS_"):
            os.environ[name.removeprefix("FOR_WORKERS_")] = value


def submitted() -> None:
    _write({"submitted": _now()})


def first_line(*_) -> bool:
    """Does the useful import, tells when, and stays until as many processes as there are to be
    have told: no worker can take two tasks. Then it is idle, and tells what memory it owns: before,
    what workers share might have been its own, since it was the first."""
    preloaded = os.environ["ENGINES_MODULE"] in sys.modules
    exec(os.environ["ENGINES_USE"], {})
    record = {"pid": os.getpid(), "at": _now(), "preloaded": preloaded, "cpu": time.process_time()}
    restored = os.readlink("/proc/self/exe").endswith("/pylaunch-restore")
    _write({**record, "restored": restored})
    _wait("at")
    _write({"idle": os.getpid(), "private": _private()})
    _wait("idle")
    return True


def _wait(key: str) -> None:
    """Until each worker has written a record that has `key`."""
    wanted = int(os.environ["ENGINES_WORKERS"])
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        with open(os.environ["ENGINES_TOLD"]) as file:
            told = sum(key in json.loads(x) for x in file)
        if told >= wanted:
            return
        time.sleep(0.02)
    raise TimeoutError(f"{told} of {wanted} workers")


if __name__ == "__main__":
    submitted()
