"""third_party/: one list of needs, for CMake and the scripts, and notices of what is linked."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
THIRD_PARTY = ROOT / "third_party"
LINE = re.compile(r"^third_party_needs\((\w+) +(\S+) +\S+ +\S+\)", re.MULTILINE)


def listed(use: str) -> list[str]:
    lines = LINE.findall((THIRD_PARTY / "versions.cmake").read_text())
    return [package for for_, package in lines if for_ == use]


def configure(folder: Path, versions: str) -> subprocess.CompletedProcess:
    """Of a project that has nothing but the dependencies."""
    shutil.copytree(THIRD_PARTY, folder / "third_party")
    (folder / "third_party/versions.cmake").write_text(versions)
    (folder / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.25)\nproject(needs LANGUAGES CXX)\n"
        "include(third_party/targets.cmake)\n"
    )
    command = ["cmake", "-S", folder, "-B", folder / "build"]
    return subprocess.run(command, capture_output=True, text=True)


def test_what_is_too_old_is_named_with_both_versions(tmp_path):
    versions = (THIRD_PARTY / "versions.cmake").read_text()
    wanted = versions.replace(" 1.5.4)", " 99.5.4)")
    assert wanted != versions
    assert configure(tmp_path / "real", versions).returncode == 0
    refused = configure(tmp_path / "raised", wanted)
    assert refused.returncode != 0
    assert "zstd (Debian's libzstd-dev) is too old" in refused.stderr
    assert re.search(r"cause: found 1\.\d+\.\d+, wanted 99\.5\.4 or newer", refused.stderr)


@pytest.mark.parametrize("uses", [["build"], ["test", "fuzz"]])
def test_the_scripts_install_what_cmake_looks_for(uses):
    script = ". scripts/common.sh; install_debian_packages() { echo $@; }; install_dependencies $@"
    command = ["bash", "-euo", "pipefail", "-c", script, "test", *uses]
    packages = subprocess.check_output(command, cwd=ROOT, text=True).split()
    assert packages == [package for use in uses for package in listed(use)] != []


def test_scripts_refuse_a_use_that_nothing_is_listed_for():
    command = ["bash", "-euo", "pipefail", "-c", ". scripts/common.sh; install_dependencies tset"]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "lists nothing for 'tset'" in refused.stderr


def test_notices_are_installed_with_every_licence_that_they_name(installed):
    folder = installed / "share/doc/pylaunch"
    notices = (folder / "NOTICES.md").read_text()
    named = set(re.findall(r"`(licenses/\S+)`", notices))
    assert len(named) == 2
    assert all((folder / name).read_text().strip() for name in named)
