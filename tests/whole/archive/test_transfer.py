"""--export and --import: the archive as one file, and what is refused of such a file."""

import os

import pytest
from conftest import Runner, archives
from test_archive import PROGRAM, build, is_healthy, move_elsewhere


@pytest.fixture
def filled(ours) -> Runner:
    assert ours.warm("-c", PROGRAM).code == 0
    return ours


def export(runner: Runner, file, **kwargs) -> dict:
    result = runner.again(flags=["--export", file, "--json"], **kwargs)
    assert result.code == 0, result.err
    return result.json


def bring(runner: Runner, file, *flags, **kwargs):
    return runner.again(flags=["--import", file, *flags], **kwargs)


def test_there_and_back(filled, tmp_path):
    file = tmp_path / "archive.pla"
    report = export(filled, file)
    assert report["modules"] > 50 and report["file_bytes"] == file.stat().st_size
    assert file.stat().st_mode & 0o777 == 0o600
    filled.warm_cache = tmp_path / "another"
    result = bring(filled, file, "--json")
    assert result.code == 0, result.err
    assert result.json["modules"] == report["modules"] and result.json["kept"] == 0
    is_healthy(filled)
    assert filled.again(flags=["--verify"]).code == 0
    again = bring(filled, file)
    assert again.code == 0 and ": 0 modules and 0 folders added" in again.out


def test_nothing_of_the_program_runs_and_names_may_be_relative(filled, tmp_path):
    result = filled.again("-c", "print('ran')", flags=["--export", "out.pla"])
    assert result.code == 0 and "ran" not in result.out and (filled.cwd / "out.pla").is_file()
    result = filled.again("-c", "print('ran')", flags=["--import", "out.pla"])
    assert result.code == 0 and "ran" not in result.out


def test_built_archive_holds_where_everything_is_another_file(ours, tree, tmp_path):
    tree.write({"pkg/__init__.py": "", **{f"pkg/m{i}.py": f"X = {i}\n" for i in range(20)}})
    env = {"PYTHONPATH": str(tree), "PYLAUNCH_SEAL": "wait", "PYTHONDONTWRITEBYTECODE": "1"}
    build(ours, "pkg", env=env)
    assert export(ours, tmp_path / "file", env=env)["portable"] >= 21
    move_elsewhere(tree.root)
    tree.settle()
    ours.warm_cache = tmp_path / "another host"
    assert bring(ours, tmp_path / "file", env=env).code == 0
    names = ", ".join(f"pkg.m{i}" for i in range(20))
    show = f"import {names}; print(pkg.m7.X)"
    result = ours.again("-c", show, env=env, flags=["--explain"])
    assert result.out == "7\n" and "21 by digest" in result.err, result.err


def test_nothing_to_export(ours, tmp_path):
    result = ours.again(flags=["--export", tmp_path / "file"])
    assert result.code == 2 and not (tmp_path / "file").exists()
    assert "cause:" in result.err and "hint:" in result.err


@pytest.mark.parametrize("place", ["folder", "missing/file", "fifo"])
def test_export_to_what_is_no_file(filled, tmp_path, place):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    result = filled.again(flags=["--export", tmp_path / place])
    assert result.code == 2 and "--export: cannot write" in result.err


def flip(path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # In a frame.
    path.write_bytes(data)


REFUSALS = {
    "absent": (lambda path: path.unlink(), "no such"),
    "cut off": (lambda path: os.truncate(path, path.stat().st_size // 2), "cause:"),
    "damaged": (flip, "damaged archive"),
    "garbage": (lambda path: path.write_bytes(b"x" * 10**5), "cause:"),
    "writable by others": (lambda path: path.chmod(0o666), "chmod go-w"),
    "a link": (lambda path: (path.rename(f"{path}-"), path.symlink_to(f"{path}-")), "cause:"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "cause:"),
    "another user's": (lambda path: os.chown(path, 12345, 12345), "cause:"),
}


@pytest.mark.parametrize("how", REFUSALS)
def test_refused_files_change_nothing(filled, tmp_path, how):
    if how == "another user's" and os.geteuid() != 0:
        pytest.skip("needs root to give a file away")
    file = tmp_path / "file"
    export(filled, file)
    spoil, words = REFUSALS[how]
    spoil(file)
    filled.warm_cache = tmp_path / "another"
    result = bring(filled, file)
    assert result.code == 2 and result.out == ""
    assert result.err.startswith("pylaunch: error: --import: nothing was changed\n  cause: ")
    assert words in result.err.lower() and "\n  hint:  " in result.err
    assert not filled.warm_cache.exists() or archives(filled.warm_cache) == []


def test_foreign_archive(filled, tmp_path):
    export(filled, tmp_path / "file")
    result = filled.again("-O", flags=["--import", tmp_path / "file"])
    assert result.code == 2 and "optimize=0" in result.err and "optimize=1" in result.err


def test_own_entries_stay_and_refresh_replaces(filled, tmp_path):
    export(filled, tmp_path / "file")
    filled.warm("-c", "import wave")
    assert bring(filled, tmp_path / "file", "--json").json["kept"] > 50
    counts = filled.again("-c", "import wave", flags=["--explain"]).archive_counts()
    assert counts[1] == 0
    assert bring(filled, tmp_path / "file", "--cache-mode=refresh").code == 0
    counts = filled.again("-c", "import wave", flags=["--explain"]).archive_counts()
    assert counts[1] > 0
    result = bring(filled, tmp_path / "file", "--cache-mode=readonly")
    assert result.code == 2 and "readonly" in result.err
