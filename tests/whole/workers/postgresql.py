"""A PostgreSQL server of one's own, of Debian's package, gone at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.skip("needs Debian's postgresql")
    return found[-1]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def server(*addresses: str, networks: Sequence[str] = ()) -> Iterator[int]:
    """The port of one that listens at 127.0.0.1 and `addresses`, for `networks` (CIDR), too."""
    programs, port = _programs(), _free_port()
    # PostgreSQL refuses to run as root, and pytest's folders are root's alone.
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="pylaunch-postgresql-"))

    def run(program: str, *argv: str) -> None:
        command = [*user, str(programs / program), *argv]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout.decode()

    try:
        if user:
            shutil.chown(folder, "postgres")
        data = str(folder / "data")
        names = ["--username=optuna", "--auth=trust", "--locale=C.UTF-8"]
        run("initdb", "-D", data, "--no-sync", *names)
        with open(folder / "data" / "pg_hba.conf", "a") as rules:
            rules.writelines(f"host all all {network} trust\n" for network in networks)
        listen = ",".join(("127.0.0.1", *addresses))
        options = f"-p {port} -k {folder} -c listen_addresses={listen} -c fsync=off"
        run("pg_ctl", "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
        try:
            run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "optuna", "optuna")
            yield port
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def url(port: int, host: str = "127.0.0.1") -> str:
    return f"postgresql+psycopg://optuna@{host}:{port}/optuna"
