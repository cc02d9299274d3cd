# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""pylaunch finds what was installed with it however it was started, and where it cannot, says what is true."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import Result, clean_environment, finish, start

NO_PROC = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
SAY = "import sys; print([x for x in sys.orig_argv[1:]])"
RUNNING_BARE = "pylaunch: warning: running {python} without pylaunch\n"
HINT = "  hint:  keep bin/pylaunch and libexec/pylaunch together, as they were installed; a symbolic link to bin/pylaunch may lie anywhere, a copy or a hard link may not\n"


@pytest.fixture(params=["/proc", "no /proc"])
def wrap(request):
    """With and without /proc, which tells a program where it lies."""
    if request.param == "/proc":
        return []
    probe = subprocess.run([*NO_PROC, "true"], check=False, capture_output=True)
    if os.geteuid() != 0 or probe.returncode != 0:
        pytest.skip("needs the right to mount")
    return NO_PROC


class Installation:
    """bin and lib somewhere, as cmake --install, an unpacked wheel or a copy of an environment lays them."""

    def __init__(self, lab, folder: Path):
        self.lab, self.folder = lab, folder
        build = lab.pylaunch.parent
        self.library = folder / "libexec/pylaunch"
        self.library.mkdir(parents=True)
        (folder / "bin").mkdir()
        self.pylaunch = folder / "bin/pylaunch"
        shutil.copy(lab.pylaunch, self.pylaunch)
        engine = f"engine-cpython-{lab.version[0]}.{lab.version[1]}.so"
        for name in (engine, "pylaunch-sealer"):
            shutil.copy(build / name, self.library)
        (self.library / "resume").symlink_to(build / "resume")

    def run(self, program, *args, wrap=(), cwd="/", env=None, **kwargs) -> Result:
        env = {
            **clean_environment(self.lab.home),
            "PYLAUNCH_PYTHON": str(self.lab.python),
            "PYLAUNCH_CACHE": str(self.folder / "cache"),
            **(env or {}),
        }
        code, out, err = finish(start([*wrap, program, *args], env, cwd, **kwargs))
        return Result(code, out.decode(), err.decode())


@pytest.fixture
def installation(lab, tmp_path):
    lab.need_pylaunch()
    return Installation(lab, tmp_path / "somewhere")


def entered(result: Result) -> bool:
    """The engine was there: only it says what the archive did."""
    return result.code == 0 and "pylaunch: explain: archive: " in result.err


def test_engine_is_found_from_wherever_pylaunch_is_started(installation, wrap):
    path = installation.pylaunch
    for name in ("link", "chain"):
        (installation.folder / name).symlink_to(path if name == "link" else "link")
    on_path = {"PATH": f"{path.parent}:{os.environ['PATH']}"}
    ways = [
        dict(program=path),
        dict(program=installation.folder / "link"),
        dict(program=installation.folder / "chain"),
        dict(program="./pylaunch", cwd=path.parent, wrap=[*wrap, "env"]),
        dict(program="bin/pylaunch", cwd=path.parent.parent, wrap=[*wrap, "env"]),
        dict(program="pylaunch", env=on_path, wrap=[*wrap, "env"]),
        dict(program="pylaunch", env=on_path, wrap=[*wrap, "sh", "-c", '"$@"', "sh"]),
        dict(program=path, wrap=[*wrap, "bash", "-c", 'exec -a other "$@"', "sh"]),
        dict(program=path, wrap=[*wrap, "bash", "-c", 'exec -a /usr/bin/env "$@"', "sh"]),
    ]
    for way in ways:
        result = installation.run(
            args := way.pop("program"), "--explain", "-c", SAY, **{"wrap": wrap, **way}
        )
        assert entered(result), (args, way, result)
        assert result.out == f"{['-c', SAY]}\n"


def test_script_that_names_pylaunch_as_its_interpreter(installation, wrap):
    script = installation.folder / "script"
    script.write_text(f"#!{installation.pylaunch}\nprint('ran')\n")
    script.chmod(0o755)
    result = installation.run(script, wrap=wrap, env={"PYLAUNCH_EXPLAIN": "1"})
    assert entered(result) and result.out == "ran\n"


@pytest.mark.parametrize("how", ["copy", "hard link", "bin alone", "library gone"])
def test_pylaunch_without_its_files_says_so_and_runs_the_python(installation, wrap, how):
    """pip install --target leaves lib/ behind, too."""
    path = installation.folder / "moved/bin/pylaunch"
    path.parent.mkdir(parents=True)
    if how == "hard link":
        path.hardlink_to(installation.pylaunch)
    elif how == "library gone":
        path = installation.pylaunch
        shutil.rmtree(installation.library)
    elif how == "bin alone":
        shutil.copytree(installation.pylaunch.parent, path.parent, dirs_exist_ok=True)
    else:
        shutil.copy(installation.pylaunch, path)
    said = f"  cause: its own files are not beside {path}: {path.parent}/../libexec/pylaunch: No such file or directory\n{HINT}"
    result = installation.run(path, "-c", SAY, wrap=wrap)
    assert result.err == RUNNING_BARE.format(python=installation.lab.python) + said
    assert (result.code, result.out) == (0, f"{['-c', SAY]}\n")
    result = installation.run(path, "--build", "json", wrap=wrap)
    assert result.err == f"pylaunch: error: cannot enter {installation.lab.python}\n{said}"
    assert (result.code, result.out) == (2, "")
    result = installation.run(path, "--doctor", wrap=wrap)
    assert (result.code, result.out, result.err) == (2, "", f"pylaunch: error: there is no doctor\n{said}")  # fmt: skip
    assert installation.run(path, "--stats", wrap=wrap).code == 0


def test_engine_that_cannot_be_read_is_not_called_missing(installation, wrap, ordinary_root):
    engine = next(installation.library.glob("engine-*"))
    engine.chmod(0)
    result = installation.run(installation.pylaunch, "-c", SAY, wrap=[*wrap, *ordinary_root])
    assert (result.code, result.out) == (0, f"{['-c', SAY]}\n")
    at = f"{installation.folder}/bin/../libexec/pylaunch/{engine.name}"
    assert f"  cause: its engine cannot be read: {at}: Permission denied\n" in result.err
    assert "\n  hint:  let everybody read what was installed: chmod -R a+rX\n" in result.err
    engine.unlink()
    result = installation.run(installation.pylaunch, "-c", SAY, wrap=wrap)
    assert ": there is no engine for CPython " in result.err and len(result.err.splitlines()) == 1


def test_path_with_a_blank_needs_proc(lab, tmp_path, wrap):
    """The dynamic loader takes a blank for the end of a name; by way of a descriptor in /proc it gets none."""
    lab.need_pylaunch()
    installation = Installation(lab, tmp_path / "a b")
    result = installation.run(installation.pylaunch, "--explain", "-c", SAY, wrap=wrap)
    assert (result.code, result.out) == (0, f"{['-c', SAY]}\n")
    assert entered(result) == (wrap == [])
    assert ("\n  cause: the path of its engine has a blank" in result.err) == (wrap != [])


def test_program_does_the_same_without_proc(installation, lab):
    program = (
        "import os, sys, json; print(sorted(os.environ), sys.executable, sys.prefix, sys.path)"
    )
    if os.geteuid() != 0 or subprocess.run([*NO_PROC, "true"], check=False).returncode != 0:
        pytest.skip("needs the right to mount")
    ours = installation.run(installation.pylaunch, "-c", program, wrap=NO_PROC)
    theirs = installation.run(lab.python, "-c", program, wrap=NO_PROC)
    assert (ours.code, ours.out, ours.err) == (theirs.code, theirs.out, theirs.err)
    flags = ["--image", "--preload", "import json"]
    for _ in range(2):
        image = installation.run(installation.pylaunch, *flags, "-c", program, wrap=NO_PROC)
        assert (image.code, image.out, image.err) == (theirs.code, theirs.out, theirs.err)
