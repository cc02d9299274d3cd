# ruff: noqa: E501 - programs in strings read better on long lines.
"""Containers that a real runtime makes, Debian's crun, as Docker would have it make them: mounts, capabilities, seccomp profile.

A root is small: a Python, what it needs of this machine, and pylaunch as it is installed. `Root.run` starts it as Docker
starts what it has pulled: under an overlay of its own, so that each container's files are on another device.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import ROOT, Result, finish, start

# https://github.com/moby/moby, oci/caps/defaults.go.
CAPABILITIES = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
# https://github.com/moby/moby, oci/defaults.go.
PROC = {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}  # fmt: skip
MOUNTS = [
    PROC,
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
    {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]},
]  # fmt: skip
MASKED = "/proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/sched_debug /proc/scsi /proc/timer_list /proc/timer_stats /sys/devices/virtual/powercap /sys/firmware"
READ_ONLY = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger"
NAMESPACES = ["pid", "network", "ipc", "uts", "mount"]
CRUN = ["crun", "--cgroup-manager=disabled"]
# This machine's control groups may be of a kind that crun refuses.
ENTER = """
umount -R /sys/fs/cgroup 2>/dev/null; mount -t tmpfs none /sys/fs/cgroup &&
mount -t overlay -o "lowerdir=$0,upperdir=upper,workdir=work" overlay root && exec "$@"
"""
# The names of a root's own; Debian's python images have the last two where they have them.
PATH = "/usr/local/bin:/usr/bin:/bin"


@functools.cache
def seccomp() -> dict:
    """Docker's default profile (tests/programs/image_places/under_docker_seccomp.py has it as a filter), as the runtime takes it."""
    lines = (ROOT / "third_party/docker-default.txt").read_text().splitlines()
    names = [x.split()[0] for x in lines if not x.startswith("#")]
    allow = "SCMP_ACT_ALLOW"

    def argument(value, op="SCMP_CMP_EQ", **more):
        return [{"index": 0, "value": value, "op": op, **more}]

    rules = [{"names": names, "action": allow}]
    for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        rules.append({"names": ["personality"], "action": allow, "args": argument(value)})
    masked = argument(0x7E020000, "SCMP_CMP_MASKED_EQ", valueTwo=0)
    rules.append({"names": ["clone"], "action": allow, "args": masked})
    rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38})
    rules.append({"names": ["socket"], "action": allow, "args": argument(38, "SCMP_CMP_LT")})
    rules.append({"names": ["socket"], "action": allow, "args": argument(39)})
    rules.append({"names": ["socket"], "action": allow, "args": argument(40, "SCMP_CMP_GT")})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": rules,
    }


@dataclass
class Container:
    """What `docker run` has options for."""

    env: dict[str, str] = field(default_factory=dict)
    home: str | None = "/root"
    user: tuple[int, int] = (0, 0)
    read_only: bool = False
    tmpfs: dict[str, str] = field(default_factory=dict)  # Folder: options.
    without: tuple[str, ...] = ()  # Mounts that there are not.
    masked: tuple[str, ...] = ()  # Besides Docker's own.
    cwd: str = "/app"
    terminal: bool = False
    seccomp: bool = True
    capabilities: str = CAPABILITIES
    no_new_privileges: bool = False

    def spec(self, args) -> dict:
        env = {"PATH": PATH, "LANG": "C.UTF-8", **self.env}
        if self.home is not None:
            env["HOME"] = self.home
        names = [f"CAP_{x}" for x in self.capabilities.split()]
        # execve(2) takes them from who is not root.
        held = names if self.user[0] == 0 else []
        mounts = [x for x in MOUNTS if x["destination"] not in self.without]
        for folder, options in self.tmpfs.items():
            chosen = ["nosuid", "nodev", "noexec", *options.split(",")]
            mounts.append({"destination": folder, "type": "tmpfs", "source": "tmpfs", "options": chosen})  # fmt: skip
        has_proc = "/proc" not in self.without
        masked = [x for x in (*MASKED.split(), *self.masked) if has_proc or "/proc" not in x]
        linux = {
            "namespaces": [{"type": x} for x in NAMESPACES],
            "maskedPaths": masked,
            "readonlyPaths": READ_ONLY.split() if has_proc else [],
        }
        if self.seccomp:
            linux["seccomp"] = seccomp()
        return {
            "ociVersion": "1.0.0",
            "process": {
                "terminal": self.terminal,
                "user": {"uid": self.user[0], "gid": self.user[1]},
                "args": [str(x) for x in args],
                "env": [f"{name}={value}" for name, value in env.items()],
                "cwd": self.cwd,
                "noNewPrivileges": self.no_new_privileges,
                "capabilities": {"bounding": names, "effective": held, "permitted": held},
            },
            "root": {"path": "root", "readonly": self.read_only},
            "hostname": "container",
            "mounts": mounts,
            "linux": linux,
        }


class Root:
    """A folder that is a container's root, and `scratch`, where containers keep what they need while they run."""

    def __init__(self, folder: Path, scratch: Path):
        self.folder, self.scratch = folder, scratch

    def argv(self, container: Container, args) -> tuple[list[str], Path]:
        """And the working directory, the bundle's."""
        bundle = self.scratch / str(uuid.uuid4())
        for name in ("root", "upper", "work"):
            (bundle / name).mkdir(parents=True)
        # A root in an overlay has the upper folder's rights.
        (bundle / "upper").chmod(0o755)
        (bundle / "config.json").write_text(json.dumps(container.spec(args)))
        enter = ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER]
        return [*enter, str(self.folder), *CRUN, "run", f"pylaunch-{bundle.name}"], bundle

    def run(self, container: Container, *args, timeout: float = 120) -> Result:
        argv, bundle = self.argv(container, args)
        env = {"PATH": os.environ["PATH"]}
        code, out, err = finish(start(argv, env, bundle), timeout=timeout)
        shutil.rmtree(bundle)
        return Result(code, out.decode(), err.decode())

    def build(self, container: Container, *args) -> Result:
        """RUN in a Dockerfile: what it changes stays."""
        argv, bundle = self.argv(container, args)
        layer = ENTER.replace('-t overlay -o "lowerdir=$0,upperdir=upper,workdir=work" overlay', '--bind "$0"')  # fmt: skip
        argv[argv.index(ENTER)] = layer
        code, out, err = finish(start(argv, {"PATH": os.environ["PATH"]}, bundle), timeout=300)
        shutil.rmtree(bundle)
        assert code == 0, (out, err)
        return Result(code, out.decode(), err.decode())

    def copy(self, folder: Path) -> Root:
        """Other inodes, other change times; as another host unpacks the layers."""
        subprocess.run(["cp", "-a", self.folder, folder], check=True)
        return Root(folder, self.scratch)


def libraries_of(files) -> set[str]:
    shown = subprocess.run(["ldd", *map(str, files)], capture_output=True, text=True).stdout
    return set(re.findall(r"(?:=> |^\s+)(/\S+) \(0x", shown, re.M))


def make_root(folder: Path, lab, scratch: Path) -> Root:
    """`lab`'s Python at /usr/local/bin/python3, of this machine what it needs, and pylaunch."""
    tell = "import sys; print(sys.base_prefix)"
    prefix = subprocess.check_output([lab.python, "-I", "-c", tell], text=True).strip()
    version = "{}.{}".format(*lab.version)
    executable = Path(os.path.realpath(lab.python))

    def put(path, to=None):
        target = folder / str(to or path).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)

    base = Path(prefix) / "lib" / f"python{version}"
    unneeded = shutil.ignore_patterns("test", "tests", "site-packages", "dist-packages", "idlelib", "tkinter", "ensurepip", "config-*", "lib2to3", "pydoc_data")  # fmt: skip
    shutil.copytree(base, folder / str(base).lstrip("/"), ignore=unneeded, symlinks=True)
    put(executable)
    put(shutil.which("dash") or shutil.which("sh"), "/bin/sh")
    for tool in ("chmod", "chown", "mkdir"):
        put(shutil.which(tool), f"/bin/{tool}")
    extensions = list((base / "lib-dynload").glob("*.so"))
    for library in libraries_of([executable, *extensions, "/bin/sh", *(folder / "bin").iterdir()]):
        put(library)
    for name in ("usr/local/bin", "tmp", "app", "opt", "etc", "root", "var/tmp", "proc", "sys", "dev"):  # fmt: skip
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (folder / name).chmod(0o1777)
    for name in ("python3", f"python{version}"):
        (folder / "usr/local/bin" / name).symlink_to(executable)
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    install = [
        "cmake",
        "--install",
        str(ROOT / "build"),
        "--prefix",
        str(folder / "usr/local"),
        "--strip",
    ]
    subprocess.run(install, check=True, capture_output=True)
    for engine in (folder / "usr/local/libexec/pylaunch").glob("engine-*"):
        if engine.name != f"engine-cpython-{version}.so":
            engine.unlink()
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    return Root(folder, scratch)


def need_crun(lab) -> None:
    lab.need_pylaunch()
    if os.geteuid() != 0 or not shutil.which("crun"):
        pytest.skip("crun: not here, or not for this user")
