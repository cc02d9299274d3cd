"""What `cmake --install` leaves: files for starting programs quickly, as they were when nothing changed."""  # noqa: E501

import subprocess

import pytest
from conftest import ROOT


def sections(path) -> str:
    command = ["readelf", "-SW", path]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def binaries(installed):
    engines = sorted((installed / "libexec/pylaunch").glob("engine-*.so"))
    return [installed / "bin/pylaunch", installed / "libexec/pylaunch/pylaunch-restore", *engines]


def test_names_of_functions_are_installed_and_nothing_else_for_debuggers(binaries):
    for path in binaries:
        found = sections(path)
        assert ".symtab" in found and ".debug_info" not in found, path


def test_installed_again_nothing_changes(binaries, installed):
    def stamps():
        return [(path.stat().st_ino, path.stat().st_mtime_ns) for path in binaries]

    before = stamps()
    command = ["cmake", "--install", ROOT / "build", "--prefix", installed]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert stamps() == before
