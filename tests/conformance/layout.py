"""Throw-away environments in which stock `python` and `pylaunch` stand side by side."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# What may change what any Python does, and what steers pylaunch.
_MEDDLING = ("PYTHON", "PYLAUNCH_", "VIRTUAL_ENV", "CONDA_", "PYENV_", "LD_PRELOAD", "PIP_", "XDG_")


def clean_environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_MEDDLING)}
    return {**kept, "HOME": str(home), "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True)
class Prefix:
    """A virtual environment with pylaunch installed into it."""

    folder: Path
    version: str  # "3.11.7"

    @property
    def minor(self) -> str:
        return self.version.rpartition(".")[0]

    @property
    def stock(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def pylaunch(self) -> Path:
        return self.folder / "bin" / "pylaunch"

    @property
    def sources(self) -> Path:
        return self.folder / "sources"

    @property
    def engine(self) -> Path:
        return self.folder / "libexec/pylaunch" / f"engine-cpython-{self.minor}.so"

    @property
    def restorer(self) -> Path:
        return self.folder / "libexec/pylaunch" / "pylaunch-restore"


def make_prefix(python: str, build: Path, folder: Path, requirements: Path | None = None) -> Prefix:
    """With what `requirements` names installed, and no pip otherwise.

    Raises CalledProcessError, and RuntimeError where `build` has no engine for that Python.
    """
    environment = clean_environment(folder.parent)
    # By the real executable: of a virtual environment another one would inherit the packages.
    asked = "import json, sys; print(json.dumps([sys._base_executable, sys.version.split()[0]]))"
    base, version = json.loads(subprocess.check_output([python, "-c", asked], env=environment))
    pip = [] if requirements else ["--without-pip"]
    subprocess.run([base, "-m", "venv", *pip, folder], env=environment, check=True)
    prefix = Prefix(folder, version)
    if requirements:
        _pip(prefix, "install", "-r", requirements)
    subprocess.run(
        ["cmake", "--install", build, "--prefix", folder], check=True, stdout=subprocess.DEVNULL
    )
    if not prefix.engine.exists():
        raise RuntimeError(f"{build} has no engine for {base}, CPython {version}")
    return prefix


def add_site(prefix: Prefix, folder: Path) -> None:
    """Makes the packages in `folder` importable, by a .pth file."""
    packages = prefix.folder / "lib" / f"python{prefix.minor}" / "site-packages"
    (packages / "conformance.pth").write_text(f"{folder.resolve()}\n")


def add_source(prefix: Prefix, name: str) -> None:
    """Unpacks the source distribution of an installed package: wheels come without tests."""
    asked = f"import importlib.metadata as m; print(m.version({name!r}))"
    version = subprocess.check_output([prefix.stock, "-c", asked], text=True).strip()
    downloads = prefix.folder / "downloads"
    # Of this package only: what builds it need not be built from its source as well.
    source = ["--no-deps", f"--no-binary={name}", f"{name}=={version}"]
    _pip(prefix, "download", *source, "-d", downloads)
    shutil.unpack_archive(downloads / f"{name}-{version}.tar.gz", prefix.sources, filter="data")
    (prefix.sources / f"{name}-{version}").rename(prefix.sources / name)


def _pip(prefix: Prefix, command: str, *arguments) -> None:
    quiet = ["-m", "pip", command, "--quiet", "--disable-pip-version-check"]
    environment = clean_environment(prefix.folder.parent)
    subprocess.run([prefix.stock, *quiet, *arguments], env=environment, check=True)
