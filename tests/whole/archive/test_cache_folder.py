# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""Where there is no cache folder, or none that can be listed, pylaunch says so and why."""

import json
import os

import pytest
from imaged import reason

TOOLS = ["--stats", "--verify", "--prune"]
UNLISTABLE_HINT = (
    "  hint:  let this user read and enter it, or name another folder: --cache, PYLAUNCH_CACHE\n"
)
NOBODY_NAMES = "neither --cache nor PYLAUNCH_CACHE names a folder"
NO_FOLDERS = {
    "unset": ({}, "XDG_CACHE_HOME is not set; HOME is not set"),
    "empty": ({"HOME": "", "XDG_CACHE_HOME": ""}, "XDG_CACHE_HOME is not set; HOME is not set"),
    "relative": (
        {"HOME": "me", "XDG_CACHE_HOME": "x"},
        "XDG_CACHE_HOME is no absolute path: 'x'; HOME is no absolute path: 'me'",
    ),
}


@pytest.fixture
def bare(ours):
    """pylaunch with the cache folder that its environment alone says."""
    ours.launch = lambda cache=None, mode=None: (
        [str(ours.python)]
        if mode == "stock"
        else [str(ours.lab.pylaunch), "--python", str(ours.python)]
    )
    return ours


def homes(ours, env) -> dict:
    return {"HOME": None, "XDG_CACHE_HOME": None, **env}


@pytest.mark.parametrize("case", NO_FOLDERS)
def test_no_cache_folder_is_told_with_its_reason(bare, case):
    env, why = NO_FOLDERS[case]
    env, why = homes(bare, env), f"{NOBODY_NAMES}; {why}"
    for tool in TOOLS:
        result = bare.again(tool, env=env)
        assert (result.code, result.out, result.err) == (0, f"no cache folder: {why}\n", "")
        report = bare.again(tool, "--json", env=env).json
        assert (report["folder"], report["why"]) == ("", why)
    result = bare.again("--explain", "-c", "print(1)", env=env)
    assert result.out == "1\n" and f"pylaunch: explain: archive: none: {why}\n" in result.err
    result = bare.again("--explain", "--image", "-c", "print(1)", env=env)
    assert (result.out, reason(result)) == ("1\n", "there is no cache folder")
    result = bare.again("--image-build", "-c", "print(1)", env=env)
    assert result.code != 0 and "\n  cause: there is no cache folder\n" in result.err


def test_cache_that_is_off_is_told_as_that(ours):
    result = ours.again("--cache-mode=off", "--explain", "--image", "-c", "print(1)")
    assert "pylaunch: explain: archive: none: --cache-mode off\n" in result.err
    assert (result.out, reason(result)) == ("1\n", "the cache is off")


def test_slash_at_the_end_of_home_is_no_part_of_the_cache_folders_name(bare, tmp_path):
    below = tmp_path / ".cache/pylaunch"
    for env in ({"HOME": f"{tmp_path}//"}, {"XDG_CACHE_HOME": f"{tmp_path}/.cache/"}, {"PYLAUNCH_CACHE": f"{below}/"}):  # fmt: skip
        assert bare.again("--stats", "--json", env=homes(bare, env)).json["folder"] == str(below)
    stats = bare.again("--stats", "--json", env=homes(bare, {"HOME": "/"}))
    assert stats.json["folder"] == "/.cache/pylaunch"


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("mode", [0o300, 0o000])
@pytest.mark.parametrize("which", ["", "/images"])
def test_folder_that_cannot_be_listed_is_an_error(ours, ordinary_root, tool, mode, which):
    assert ours.warm("-c", "import wave").code == 0
    (ours.warm_cache / "images").mkdir(exist_ok=True)
    folder = f"{ours.warm_cache}{which}"
    os.chmod(folder, mode)
    said = f"pylaunch: error: {folder}: cannot list\n  cause: Permission denied\n{UNLISTABLE_HINT}"
    for flags in ([tool], [tool, "--json"]):
        result = ours.again(*flags, wrap=ordinary_root)
        assert (result.code, result.out, result.err) == (1, "", said)
    os.chmod(folder, 0o700)
    assert ours.again(tool, wrap=ordinary_root).code == 0


@pytest.mark.parametrize("tool", TOOLS)
def test_file_in_the_place_of_the_folder_is_an_error(ours, tool):
    ours.warm_cache.write_text("")
    result = ours.again(tool)
    said = f"pylaunch: error: {ours.warm_cache}: cannot list\n  cause: Not a directory\n"
    assert (result.code, result.out, result.err) == (1, "", said + UNLISTABLE_HINT)


def test_no_image_is_made_where_none_would_be_found(image, ordinary_root):
    """It would be made again at every start."""
    folder = image.cache / "images"
    folder.mkdir(parents=True)
    folder.chmod(0o300)
    for _ in range(2):
        result = image("-c", "print(1)", wrap=ordinary_root)
        assert (result.code, result.out) == (0, "1\n")
        assert reason(result) == f"none: {folder}: cannot list: Permission denied"
        assert "image: being made" not in result.err
    result = image("--image-build", "-c", "print(1)", wrap=ordinary_root)
    assert result.code != 0 and "cannot list: Permission denied" in result.err
    folder.chmod(0o700)
    assert image.images() == []


def test_archive_that_cannot_be_opened_is_not_none_yet(ours, ordinary_root):
    assert ours.warm("-c", "import wave").code == 0
    ours.warm_cache.chmod(0o000)
    result = ours.again("--explain", "-c", "print(1)", wrap=ordinary_root)
    ours.warm_cache.chmod(0o700)
    assert (result.code, result.out) == (0, "1\n")
    assert "none yet" not in result.err and ".pla: not used\n" in result.err
    assert len(result.warnings()) == 1


def test_json_report_of_a_cache_folder_has_no_reason(ours):
    assert "why" not in json.loads(ours.again("--stats", "--json").out)
