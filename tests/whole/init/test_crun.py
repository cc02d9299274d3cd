# ruff: noqa: E501 - programs in strings read better on long lines.
"""pylaunch as the entry point of a container that a real runtime makes: Debian's crun, with Docker's capabilities."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import uuid

import pytest
from conftest import clean_environment, finish, start

# https://github.com/moby/moby, oci/caps/defaults.go.
CAPABILITIES = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
# The root is this machine's, to read only. Its control groups may be of a kind that crun refuses.
ENTER = """
umount -R /sys/fs/cgroup 2>/dev/null; mount -t tmpfs none /sys/fs/cgroup &&
mkdir root && mount --rbind / root && mount --make-rprivate root && exec "$@"
"""
CRUN = ["crun", "--cgroup-manager=disabled"]
TELL = "import os; print(os.getpid(), os.getppid(), os.getsid(0), os.getpgrp(), open('/proc/1/comm').read().strip(), os.isatty(0), flush=True)\n"


class Container:
    def __init__(self, lab, folder):
        lab.need_pylaunch()
        self.lab, self.folder, self.name = lab, folder, f"pylaunch-{uuid.uuid4()}"
        self.env = clean_environment(lab.home)
        self.wrap = ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, "-"]

    def argv(self, *args, terminal=False) -> list[str]:
        config = self.folder / "config.json"
        config.unlink(missing_ok=True)
        subprocess.run(["crun", "spec"], cwd=self.folder, check=True)
        spec = json.loads(config.read_text())
        spec["root"] = {"path": "root", "readonly": True}
        spec["mounts"] = [x for x in spec["mounts"] if x["type"] != "cgroup"]
        spec["linux"].pop("resources", None)
        names = [f"CAP_{x}" for x in CAPABILITIES.split()]
        process = spec["process"]
        process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)
        process["terminal"] = terminal
        ours = [self.lab.pylaunch, "--python", self.lab.python, "--cache-mode", "off"]
        process["args"] = [str(x) for x in (*ours, *args)]
        config.write_text(json.dumps(spec))
        return [*self.wrap, *CRUN, "run", self.name]

    def stop(self) -> None:
        subprocess.run([*CRUN, "kill", self.name, "TERM"], env=self.env, check=True)


@pytest.fixture
def container(lab, tmp_path):
    if not shutil.which("crun"):
        pytest.skip("crun: not here")
    container = Container(lab, tmp_path)
    probe = subprocess.run(container.argv("--init", "never", "-c", "pass"), cwd=tmp_path, env=container.env, capture_output=True, text=True)  # fmt: skip
    if probe.returncode != 0:
        pytest.skip(f"crun makes no container here: {probe.stderr.strip()}")
    (tmp_path / "root").rmdir()
    return container


def test_the_runtime_stops_it_at_once(container):
    argv = container.argv("-c", TELL + "import time; time.sleep(60)")
    process = start(argv, container.env, container.folder)
    assert process.stdout.readline() == b"2 1 2 2 pylaunch False\n", process.stderr.read()
    container.stop()
    assert finish(process, timeout=20)[0] == 128 + signal.SIGTERM


def test_the_program_s_exit_code_is_the_container_s(container):
    argv = container.argv("-c", "import subprocess; raise SystemExit(subprocess.call(['sh', '-c', 'exit 41']) + 1)")  # fmt: skip
    assert finish(start(argv, container.env, container.folder)) == (42, b"", b"")


def test_the_runtime_s_terminal_is_the_program_s(container):
    program = (
        TELL
        + "try: print(input(), flush=True); import time; time.sleep(60)\nexcept KeyboardInterrupt: print('interrupted'); raise SystemExit(3)"
    )
    argv = container.argv("-c", program, terminal=True)
    pid, master = pty.fork()
    if pid == 0:
        try:
            os.chdir(container.folder)
            os.execvpe(argv[0], argv, container.env)
        finally:
            os._exit(127)
    shown = b""
    typed = {b"2 1 2 2 pylaunch True": b"\x1aword\n", b"word\r\nword": b"\x03"}
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:  # EIO: the end.
            break
        shown += data
        for sign in [x for x in typed if x in shown.replace(b"^Z", b"")]:
            os.write(master, typed.pop(sign))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(master)
    assert (code, typed) == (3, {}) and b"interrupted" in shown, shown
