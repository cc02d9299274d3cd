# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""A cache folder that cannot be listed is not an empty one."""

import os

import pytest
from imaged import reason

TOOLS = ["--stats", "--verify", "--prune"]
UNLISTABLE_HINT = (
    "  hint:  let this user read and enter it, or name another folder: --cache, PYLAUNCH_CACHE\n"
)


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
