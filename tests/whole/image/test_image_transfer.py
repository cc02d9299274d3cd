"""--export and --import carry images: to another host, or back after the cache was removed."""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest
from conftest import Tree
from imaged import RACY, restored, write_unseen
from test_image_adoption import ELSEWHERE, boot, build, is_adopted_now, needs_root, travel

__all__ = ["boot", "travel"]  # Fixtures.

CLOCK = "import time; kept = time.monotonic_ns()\n"


def tool(image, *flags, code=0, wrap=()) -> str:
    """What a tool says on stdout; on stderr, if it fails."""
    argv = [*wrap, image.lab.pylaunch, "--python", image.python, "--cache", image.cache, *flags]
    done = subprocess.run(
        argv, env=image.env(), cwd=image.cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def export(image, *flags) -> dict:
    file = image.folder / "all.pylaunch"
    return json.loads(tool(image, "--export", file, "--json", *flags))


def bring(image, *flags, **kwargs) -> str:
    return tool(image, "--import", image.folder / "all.pylaunch", *flags, **kwargs)


def empty(image) -> None:
    shutil.rmtree(image.cache, ignore_errors=True)


@pytest.mark.parametrize("where", ["here", "copied", pytest.param("rebooted", marks=needs_root)])
def test_the_first_start_uses_what_came(travel, request, where):
    image, wrap = travel.image, []
    (report,) = export(image)["images"]
    (img,) = image.images()
    assert report["name"] == img.stem and report["bytes"] == img.stat().st_size
    assert report["data_bytes"] <= img.stat().st_blocks * 512
    file = image.folder / "all.pylaunch"
    assert file.stat().st_mode & 0o777 == 0o600 and file.stat().st_size < report["bytes"] / 2
    empty(image)
    if where == "copied":
        travel.copy()
    elif where == "rebooted":
        wrap = request.getfixturevalue("boot")
    said = bring(image, wrap=wrap)
    assert f"  image    {img.stem}: " in said
    assert {path.suffix for path in image.images("*")} == {".img", ".key", ".digests"}
    assert {path.stat().st_mode & 0o777 for path in image.images("*")} == {0o600}
    assert "✓" in tool(image, "--verify", wrap=wrap)
    first = travel.start(wrap=wrap)
    assert restored(first) and first.out == "1 some\n", first.err
    assert (ELSEWHERE in first.err) == (where != "here")
    later = travel.start(wrap=wrap)
    assert restored(later) and ELSEWHERE not in later.err, later.err
    # It is there already, and stays as it is.
    before = img.stat()
    assert f"  kept     {img.stem}: " in bring(image, wrap=wrap)
    assert img.stat() == before


def test_what_is_for_this_boot_or_damaged_stays_and_that_is_told(image):
    lib = Tree(image.folder / "lib").write({"clock.py": CLOCK, "plain.py": ""})
    time.sleep(RACY)
    env = {"PYTHONPATH": str(lib)}
    for module in ("clock", "plain"):
        assert build(image, env=env, preload=[f"import {module}"])[0] == 0
    report = export(image)
    (clock,), (plain,) = report["images_left_out"], report["images"]
    assert clock["why"].startswith("it is for this boot only: it keeps 1 time of a clock")
    file = image.folder / "all.pylaunch"
    said = tool(image, "--export", file)
    assert f"  left out {clock['name']}: it is for this boot only" in said
    write_unseen(image.cache / "images" / f"{plain['name']}.img")
    said = tool(image, "--export", file)
    assert f"  left out {plain['name']}: it is damaged" in said
    empty(image)
    assert bring(image).count("\n") == 1 and not image.images("*")


@needs_root
def test_what_is_to_be_for_others(image):
    env = {"HOME": "/", "PYLAUNCH_INIT": "never"}
    assert build(image, env=env)[0] == 0
    assert build(image, "--shared", env=env, preload=["import json.tool"])[0] == 0
    report = export(image, "--shared")
    assert [left["why"] for left in report["images_left_out"]] == ["it is for its maker alone"]
    (shared,) = report["images"]
    assert len(export(image)["images"]) == 2
    export(image, "--shared")
    empty(image)
    bring(image)
    assert [img.stem for img in image.images()] == [shared["name"]]
    assert {path.stat().st_mode & 0o777 for path in image.images("*")} == {0o644}


@pytest.mark.parametrize("damage", ["cut off", "flipped"])
def test_a_damaged_file_is_refused_in_one_error(travel, damage):
    image = travel.image
    export(image)
    file = image.folder / "all.pylaunch"
    data = bytearray(file.read_bytes())
    data[-len(data) // 3] ^= 1  # In a block of the image, which is most of it.
    file.write_bytes(data if damage == "flipped" else data[:-1])
    empty(image)
    said = bring(image, code=2)
    assert said.startswith(
        f"pylaunch: error: --import: nothing was changed\n  cause: {file}: damaged"
    )
    assert said.count("\n") == 3 and "\n  hint:  copy it once more" in said
    assert not image.images("*")


@needs_root
def test_no_room(travel, tmp_path):
    image = travel.image
    export(image)
    empty(image)
    image.cache.mkdir()
    wrap = ["unshare", "-m", "sh", "-c"]
    wrap += [
        f'mount -t tmpfs -o size=3m tmpfs {image.cache}; "$@"; code=$?; '
        f"ls -R {image.cache} >&2; exit $code",
        "-",
    ]
    said = bring(image, code=1, wrap=wrap)
    assert "no room: its images take" in said and ".img" not in said and ".pla" not in said


def test_killed_at_any_time_it_leaves_nothing_half_done(travel):
    image = travel.image
    export(image)
    argv = [image.lab.pylaunch, "--python", image.python, "--cache", image.cache]
    argv += ["--import", image.folder / "all.pylaunch"]
    empty(image)
    begun = time.monotonic()
    subprocess.run(argv, env=image.env(), cwd=image.cwd, check=True, capture_output=True)
    took = time.monotonic() - begun
    outcomes = set()
    for step in range(8):
        empty(image)
        process = subprocess.Popen(
            argv, env=image.env(), cwd=image.cwd, stdout=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(took * (step + 1) / 8)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if image.cache.exists():
            tool(image, "--verify")
        keys = image.images("*.key")
        outcomes.add(len(keys))
        if keys:
            assert restored(travel.start())
    assert 0 in outcomes
    empty(image)
    bring(image)
    assert restored(travel.start())


def test_what_came_and_was_adopted_goes_on_as_it_was_made(travel):
    image = travel.image
    for _ in range(2):
        export(image)
        empty(image)
        travel.copy()
        shutil.rmtree(image.folder / "old")
        bring(image)
        assert is_adopted_now(travel.start())
        assert restored(travel.start())
    # What has another content there is not used.
    empty(image)
    (travel.lib / "mine/data.txt").write_text("same")
    time.sleep(RACY)
    bring(image)
    got = travel.start()
    assert not restored(got) and got.out == "1 same\n", got.err
