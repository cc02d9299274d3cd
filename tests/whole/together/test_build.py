"""What is needed to build pylaunch."""

import subprocess

from conftest import ROOT


def configure(folder, *options):
    absent = ["-DCMAKE_DISABLE_FIND_PACKAGE_GTest=ON", "-DCMAKE_DISABLE_FIND_PACKAGE_benchmark=ON"]
    argv = ["cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", *absent, *options]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_no_library_for_tests_is_needed_where_none_are_built(tmp_path):
    without = configure(tmp_path / "without", "-DBUILD_TESTING=OFF")
    assert without.returncode == 0, without.stderr
    targets = (tmp_path / "without/build.ninja").read_text()
    assert "pylaunch-sealer" in targets and "cache_tests" not in targets
    with_tests = configure(tmp_path / "with", "-DBUILD_TESTING=ON")
    assert with_tests.returncode != 0 and "GTest" in with_tests.stderr
