# ruff: noqa: E501 - programs in strings read better on long lines.
"""--stats, --verify, --prune and --image-build: what they say of images, and what they leave."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from conftest import Result, Tree, start, tty_session
from imaged import PYTHON, RACY, SLEEPER, Imaged, change_key, reason, restored

HOUR = 3600


@pytest.fixture
def shelf(lab, tmp_path) -> Imaged:
    """A cache folder with one image, and a way to let the tools look at it."""
    lab.need_pylaunch()
    shelf = Imaged(lab, tmp_path / "image")
    shelf.make("-c", "pass")

    def tool(*flags, env=None) -> Result:
        argv = [str(lab.pylaunch), "--cache", str(shelf.cache), *flags]
        done = subprocess.run(argv, env=shelf.env(env), cwd=shelf.cwd, capture_output=True, text=True, timeout=60)  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    shelf.tool = tool
    return shelf


def use(path: Path, ago: float) -> None:
    """The time of last use is the key's; the image's own stamps are proved."""
    os.utime(path, (time.time() - ago,) * 2)


def disk(path: Path) -> int:
    return path.stat().st_blocks * 512


# ---------------------------------------------------------------------------------------------- --stats


def test_stats_tell_size_command_age_and_that_the_key_holds(shelf):
    (img,), (key,) = shelf.images(), shelf.images("*.key")
    report = shelf.tool("--stats", "--json")
    assert report.code == 0, report.err
    (image,) = report.json["images"]
    assert image["path"] == str(img) and image["python"] == PYTHON
    assert image["bytes"] == img.stat().st_size
    assert image["disk_bytes"] == disk(img) + disk(key) < image["bytes"] + 10**6
    assert image["program"] == {"kind": "-c", "folder": str(shelf.cwd), "options": []}
    assert image["family"] == img.name.split("-")[0]
    assert (image["state"], image["why"], image["here"]) == ("valid", None, True)
    assert 0 <= time.time() - image["created"] < 100 and 0 <= time.time() - image["last_used"] < 100
    text = shelf.tool("--stats").out
    assert str(img) in text and "MiB" in text and "valid" in text and "-c in " in text


def test_stats_name_the_first_difference(shelf, tmp_path):
    here = shelf.tool("--stats", "--json", env={"LC_ANOTHER": "1"}).json["images"][0]
    assert (here["state"], here["here"], here["why"]) == (
        "valid",
        False,
        "variable LC_ANOTHER is new",
    )
    assert (
        "not from here: variable LC_ANOTHER is new"
        in shelf.tool("--stats", env={"LC_ANOTHER": "1"}).out
    )
    lib = Tree(tmp_path / "lib").write({"mine.py": ""})
    time.sleep(RACY)
    env = {"PYTHONPATH": str(lib)}
    shelf.make("-c", "pass", preload=["import mine"], env=env)
    (lib / "mine.py").write_text("x = 1\n")
    images = shelf.tool("--stats", "--json", env=env).json["images"]
    stale = [x for x in images if x["state"] == "stale"]
    assert len(images) == 2 and [x["why"] for x in stale] == [f"{lib / 'mine.py'} changed"]


def test_stats_tell_in_what_the_images_of_one_command_differ(shelf, tmp_path):
    assert shelf.tool("--stats", "--json").json["differences"] == []
    assert "differ" not in shelf.tool("--stats").out
    lib = Tree(tmp_path / "lib").write(
        {"mine.py": "import os; os.environ.get('A_PASSWORD'), os.environ.get('RUN_NUMBER')"}
    )
    time.sleep(RACY)
    for number, secret in ("1", "swordfish-1"), ("2", "swordfish-1"), ("3", None):
        env = {"PYTHONPATH": str(lib), "RUN_NUMBER": number}
        env.update({"A_PASSWORD": secret} if secret else {})
        wrap = ["bash", "-c", f'umask {number}; exec "$@"', "-"]
        shelf.make("-c", "pass", preload=["import mine"], env=env, wrap=wrap)
    report = shelf.tool("--stats", "--json")
    (difference,) = report.json["differences"]
    assert difference["images"] == 3 and len(report.json["images"]) == 4
    assert difference["facts"] == [
        {"fact": "umask", "values": 3},
        {"fact": "variable RUN_NUMBER", "values": 3},
        {"fact": "variable A_PASSWORD", "values": 2},
    ]
    text = shelf.tool("--stats").out
    assert (
        f"the 3 images {difference['family']}-* of one command differ in\n  umask (3 values)\n"
        in text
    )
    assert "  variable A_PASSWORD (2 values)\n" in text and "swordfish" not in text + report.out


def test_stats_call_images_of_another_boot_dead(shelf):
    make_dead(shelf)
    (image,) = shelf.tool("--stats", "--json").json["images"]
    assert (image["state"], image["why"]) == ("dead", "boot id changed")


def test_stats_show_refusals_and_what_writers_left(shelf, tmp_path):
    lib = Tree(tmp_path / "lib").write({"young.py": ""})
    (lib / "young.py").write_text("x = 1\n")
    shelf("-c", "pass", preload=["import young"], env={"PYTHONPATH": str(lib)})
    left = shelf.images()[0].with_suffix(".img.4711-0123abcd.tmp")
    left.write_bytes(b"x" * 8192)
    other = shelf.cache / "a.pla.tmp.0123456789abcdef"
    other.write_bytes(b"x")
    report = shelf.tool("--stats", "--json").json
    (note,) = report["notes"]
    assert "young.py changed less than two seconds before" in note["why"]
    assert [x["path"] for x in report["temporary"]] == [str(left), str(other)]
    text = shelf.tool("--stats").out
    assert "young.py changed" in text and str(left) in text


def test_a_start_right_after_saving_says_at_once_that_it_makes_none(shelf, tmp_path):
    lib = Tree(tmp_path / "lib").write({"young.py": "x = 1\n"})
    (lib / "young.py").write_text("x = 2\n")
    env = {"PYTHONPATH": str(lib)}
    got = shelf("-c", "import young; print(young.x)", preload=["import young"], env=env)
    young = f"{lib / 'young.py'} changed less than two seconds before this start, or since"
    assert got.out == "2\n" and "image: being made" not in got.err
    assert f"explain: image: not made: {young}; try again in 2 s\n" in got.err
    time.sleep(RACY)
    made = shelf("-c", "pass", preload=["import young"], env=env)
    assert reason(made) == f"none: {young}" and "image: being made" in made.err
    assert restored(shelf("-c", "pass", preload=["import young"], env=env))


def test_to_look_at_an_archive_is_no_use_of_it(shelf):
    """--prune goes by the time of last use."""
    (archive,) = shelf.cache.glob("*.pla")
    long_ago = int(time.time()) - HOUR
    os.utime(archive, (long_ago, long_ago))
    for flag in ("--stats", "--verify", "--prune", "--stats"):
        said = shelf.tool(flag, "--json").json
        assert archive.stat().st_atime == long_ago, flag
    assert said["archives"][0]["last_used"] == long_ago


def test_explain_blames_the_state_not_an_old_image_s_file(shelf, tmp_path):
    lib = Tree(tmp_path / "lib").write({"mine.py": "import os; os.environ.get('SETTING')\n"})
    time.sleep(RACY)
    plain = {"PYTHONPATH": str(lib)}
    shelf.make("-c", "pass", preload=["import mine"], env=plain)
    lib.write({"mine.py": "import os; os.environ.get('SETTING')  # Edited.\n"})
    time.sleep(RACY)
    shelf.make("-c", "pass", preload=["import mine"], env={**plain, "SETTING": "1"})
    flags = ["--cache-mode", "readonly", "-c", "pass"]
    said = reason(shelf(*flags, preload=["import mine"], env=plain))
    assert said == "none for this state: variable SETTING is gone"
    lib.write({"mine.py": "import os; os.environ.get('SETTING')  # Edited again.\n"})
    said = reason(shelf(*flags, preload=["import mine"], env=plain))
    assert said == f"{lib / 'mine.py'} changed"
    used = {**plain, "SETTING": "1"}
    assert reason(shelf(*flags, preload=["import mine"], env=used)) == f"{lib / 'mine.py'} changed"


def test_stats_of_a_damaged_key(shelf):
    (key,) = shelf.images("*.key")
    key.write_bytes(b"broken")
    report = shelf.tool("--stats", "--json")
    assert report.code == 1 and "damaged" in report.json["images"][0]["error"]


def test_use_is_noted_on_the_key_once_an_hour_and_the_image_still_holds(shelf):
    (img,), (key,) = shelf.images(), shelf.images("*.key")
    before = img.stat()
    use(key, 2 * HOUR)
    assert restored(shelf("-c", "pass"))
    assert time.time() - key.stat().st_mtime < 100
    noted = key.stat().st_mtime_ns
    shelf.tool("--stats"), shelf.tool("--verify")
    assert restored(shelf("-c", "pass")) and key.stat().st_mtime_ns == noted
    after = img.stat()
    assert (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)


@pytest.mark.parametrize("maker", [True, False], ids=["made with --explain", "made without"])
def test_explain_counts_imports_on_threads_in_a_restored_process(lab, tmp_path, maker):
    lab.need_pylaunch()
    image = Imaged(lab, tmp_path / "image")
    lib = Tree(tmp_path / "lib").write({"mine.py": "import threading\nt = threading.Thread(target=__import__, args=('wave',))\nt.start(); t.join()\n"})  # fmt: skip
    time.sleep(RACY)
    env, preload = {"PYTHONPATH": str(lib)}, ["import mine"]
    program = "import threading\nt = threading.Thread(target=__import__, args=('colorsys',), name='other')\nt.start(); t.join()"
    subprocess.run(image.argv("-c", "pass", preload=preload, explain=maker), env=image.env(env), cwd=image.cwd, capture_output=True, check=True)  # fmt: skip
    for command, lines in {
        "pass": ["0 imports on threads other than the main one"],
        program: ["'colorsys' imported on thread 'other' (1 module, N ms)", "1 import on threads other than the main one (1 module)"],
    }.items():  # fmt: skip
        got = image("-c", command, preload=preload, env=env)
        assert restored(got), got.err
        told = re.findall(r"^pylaunch: explain: threads: (.*)", got.err, re.M)
        assert [re.sub(r"\d+ ms", "N ms", x) for x in told] == lines, got.err
    quiet = subprocess.run(image.argv("-c", program, preload=preload, explain=False), env=image.env(env), cwd=image.cwd, capture_output=True, text=True)  # fmt: skip
    assert (quiet.stdout, quiet.stderr) == ("", "")


# ---------------------------------------------------------------------------------------------- --verify


def test_verify_reads_every_byte(shelf):
    good = shelf.tool("--verify")
    (img,) = shelf.images()
    assert (good.code, good.err) == (0, "") and f"✓ {img}: " in good.out
    data = bytearray(img.read_bytes())
    at = next(i for i in range(len(data) // 2, len(data)) if data[i])
    with img.open("r+b") as file:
        file.seek(at)
        file.write(bytes([data[at] ^ 1]))
    bad = shelf.tool("--verify")
    assert bad.code == 1 and f"✗ {img}\n  cause: " in bad.out and "  hint:  " in bad.out
    assert "its bytes are not those that were written" in bad.out
    report = shelf.tool("--verify", "--json").json
    assert report["ok"] is False and len(report["images"][0]["wrong"]) == 2  # Stamps, bytes.


def test_verify_finds_bytes_in_what_was_a_hole(shelf):
    (img,) = shelf.images()
    data = img.read_bytes()
    hole = next(i for i in range(0, len(data), 4096) if not any(data[i : i + 4096]))
    with img.open("r+b") as file:
        file.seek(hole)
        file.write(b"x")
    assert "its bytes are not" in shelf.tool("--verify").out


def test_verify_takes_holes_that_were_filled_for_the_same_bytes(shelf):
    """A copy that knows no holes holds the same; only its stamps are others."""
    (img,) = shelf.images()
    img.write_bytes(img.read_bytes())
    bad = shelf.tool("--verify").out
    assert "its bytes" not in bad and "inode, size or times" in bad


def test_verify_tells_who_may_write_it_and_a_damaged_key(shelf):
    (img,), (key,) = shelf.images(), shelf.images("*.key")
    img.chmod(0o666)
    assert "others may write" in shelf.tool("--verify").out
    data = bytearray(key.read_bytes())
    data[len(data) // 2] ^= 1
    key.write_bytes(data)
    report = shelf.tool("--verify", "--json")
    assert report.code == 1 and "damaged" in report.json["images"][0]["error"]


def test_verify_calls_stale_ordinary(shelf):
    make_dead(shelf)
    report = shelf.tool("--verify", "--json")
    assert report.code == 0 and report.json["images"][0]["state"] == "dead"


# ---------------------------------------------------------------------------------------------- --prune


def make_dead(shelf) -> None:
    """The image is of another boot then; the key's own checksums are right (image/key.cc)."""
    (key,), (digests,) = shelf.images("*.key"), shelf.images("*.digests")
    digests.unlink()  # Without these it cannot be adopted.
    boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    other = (b"1" if boot.startswith(b"0") else b"0") + boot[1:]
    change_key(key, {boot: other})


def make_others(shelf, count: int) -> list[Path]:
    """The image, and `count` others (of other environments), each unused for an hour more."""
    for i in range(count):
        shelf.make("-c", "pass", env={"LC_NUMBER": str(i)})
    keys = shelf.images("*.key")
    for hours, key in enumerate(keys):
        use(key, HOUR * (hours + 1))
    return [key.with_suffix(".img") for key in keys]


def test_prune_counts_images_and_removes_those_unused_longest(shelf):
    made = make_others(shelf, 2)
    total = shelf.tool("--prune", "--cache-size=0", "--json").json["bytes_before"]
    files = [x for x in shelf.cache.rglob("*") if x.suffix in (".img", ".key")]
    archives = sum(x.stat().st_size for x in shelf.cache.glob("*.pla"))
    assert total == sum(map(disk, files)) + archives
    result = shelf.tool("--prune", f"--cache-size={total - 1}", "--json")
    assert result.code == 0, result.err
    assert [x["path"] for x in result.json["removed"]] == [str(made[-1])]
    assert shelf.images() == sorted(made[:-1]) and len(shelf.images("*.key")) == 2
    assert "removed" in shelf.tool("--prune", "--cache-size=1").out
    assert shelf.images("*") == []


def test_prune_removes_the_dead_and_what_writers_left_whatever_the_size(shelf):
    make_dead(shelf)
    old = [
        shelf.images()[0].with_suffix(x)
        for x in (".img.1-0123abcd.tmp", ".key.tmp.0123456789abcdef")
    ]
    for path in old:
        path.write_bytes(b"x")
        os.utime(path, (time.time() - 2 * HOUR,) * 2)
    young = shelf.images()[0].with_suffix(".img.2-0123abcd.tmp")
    young.write_bytes(b"x")
    result = shelf.tool("--prune", "--cache-size=0", "--json")
    assert result.code == 0 and len(result.json["removed"]) == 1
    assert sorted(result.json["leftovers"]) == sorted(map(str, old))
    assert shelf.images("*") == [young]


def test_prune_removes_images_whose_program_folder_is_gone(shelf, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    shelf.make("-c", "pass", cwd=tmp_path / "elsewhere")
    assert len(shelf.images()) == 2
    (tmp_path / "elsewhere").rmdir()
    result = shelf.tool("--prune", "--json")
    assert [x["path"] for x in result.json["removed"]] != [] and len(shelf.images()) == 1


def test_prune_leaves_a_process_that_was_restored_alone(shelf):
    program = "import sys\nprint('ready', flush=True)\nsys.stdin.readline()\nimport decimal, json\nprint(sum(range(10**6)), decimal.Decimal(1) / 7)"
    shelf.make("-c", program, preload=["import json"])
    argv = shelf.argv("-c", program, preload=["import json"])
    process = start(argv, shelf.env(), shelf.cwd, stdin=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    assert shelf.tool("--prune", "--cache-size=1").out.count("removed") >= 2
    assert shelf.images("*") == []
    out, err = process.communicate(b"\n", timeout=60)
    assert process.returncode == 0 and out.startswith(b"499999500000 0.142857"), err


def test_publishing_prunes_with_the_same_rules(shelf):
    make_dead(shelf)
    dead = shelf.images()[0]
    old = dead.with_suffix(".img.1-0123abcd.tmp")
    old.write_bytes(b"x")
    os.utime(old, (time.time() - 2 * HOUR,) * 2)
    shelf.make("-c", "pass", env={"LC_NEW": "1"})
    assert dead not in shelf.images() and not old.exists() and len(shelf.images()) == 1
    for i in range(8):
        shelf.make("-c", "pass", env={"LC_NUMBER": str(i)})
        assert restored(shelf("-c", "pass", env={"LC_NUMBER": str(i)}))  # Else no more are made.
    assert len(shelf.images()) == 8 == len(shelf.images("*.key"))
    shelf.make("-c", "pass", env={"LC_LAST": "1", "PYLAUNCH_CACHE_SIZE": "1"})
    assert len(shelf.images()) == 1  # Its own stays, however large.
    assert restored(shelf("-c", "pass", env={"LC_LAST": "1"}))


@pytest.fixture
def public_folder():
    """Where every user can go; pytest's own folders are root's."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_another_user_s_images_are_neither_read_nor_removed(lab, public_folder):
    lab.need_pylaunch()
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    shelf = Imaged(lab, public_folder / "image")
    shelf.make("-c", "pass")
    for folder in (shelf.folder, shelf.cache, shelf.cache / "images"):
        folder.chmod(0o777)
    binary = shutil.copy(lab.pylaunch, public_folder)

    def tool(*flags) -> Result:
        wrap = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
        argv = [*wrap, binary, "--cache", str(shelf.cache), *flags]
        done = subprocess.run(argv, env=shelf.env(), cwd="/", capture_output=True, text=True)
        return Result(done.returncode, done.stdout, done.stderr)

    stats = tool("--stats", "--json").json["images"]
    assert [x["state"] for x in stats] == ["another user's"]
    assert f"- {shelf.images()[0]}: another user's, not read" in tool("--verify").out
    assert tool("--verify", "--json").json["images"][0]["ok"] is True
    pruned = tool("--prune", "--cache-size=1", "--json")
    assert pruned.code == 0 and pruned.json["removed"] == [] and pruned.json["bytes_before"] == 0
    assert len(shelf.images()) == 1


def test_json_of_an_empty_folder(shelf):
    shelf.tool("--prune", "--cache-size=1")
    for flag in ("--stats", "--verify"):
        report = json.loads(shelf.tool(flag, "--json").out)
        assert report["images"] == []
    assert reason(shelf("-c", "pass")) == "none yet"


# ---------------------------------------------------------------------------------------------- --image-build


@pytest.fixture
def empty(lab, tmp_path) -> Imaged:
    lab.need_pylaunch()
    empty = Imaged(lab, tmp_path / "image")

    def build(*args, flags=(), preload=(), env=None, **kwargs) -> Result:
        argv = empty.argv(*flags, "--image-build", *args, preload=preload, explain=False)
        env = {k: v for k, v in empty.env(env).items() if k != "PYLAUNCH_SEAL"}
        done = subprocess.run(argv, env=env, cwd=empty.cwd, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, **kwargs)  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    empty.build = build
    return empty


def test_image_build_makes_the_image_that_image_uses(empty, tmp_path):
    tree = Tree(tmp_path / "tree").write(
        {
            "train.py": "import sys\nprint('ran', sys.argv[1:], 'wave' in sys.modules)\n",
            "configs.txt": "import wave\n",
        }
    )
    time.sleep(RACY)
    preload = [str(tree / "configs.txt")]
    built = empty.build(tree / "train.py", "x", preload=preload)
    assert (built.code, built.err) == (0, "")
    (img,) = empty.images()
    assert built.out.startswith(f"{img}: made in ") and "MiB" in built.out
    got = empty(tree / "train.py", "y", "z", preload=preload)
    assert restored(got) and got.out == "ran ['y', 'z'] True\n", got.err
    again = empty.build(tree / "train.py", preload=preload)
    assert (again.code, again.out) == (0, f"{img}: already there\n")
    stamp = img.stat().st_mtime_ns
    fresh = empty.build(
        tree / "train.py", preload=preload, flags=["--cache-mode=refresh", "--json"]
    )
    assert fresh.code == 0 and fresh.json["made"] is True and fresh.json["image"] == str(img)
    assert img.stat().st_mtime_ns > stamp and fresh.json["bytes"] == img.stat().st_size


def test_image_build_waits_for_sources_that_are_too_young(empty, tmp_path):
    lib = Tree(tmp_path / "lib").write({"mine.py": "x = 1\n"})
    env = {"PYTHONPATH": str(lib)}
    built = empty.build("-c", "pass", preload=["import mine"], env=env)
    assert built.code == 0, built.err
    assert restored(empty("-c", "pass", preload=["import mine"], env=env))


@pytest.mark.parametrize("preload", [[], ["import mine"]], ids=["nothing", "a module"])
def test_image_build_waits_where_a_name_is_new(empty, tmp_path, preload):
    """`cp x.py y.py; pylaunch --image-build y.py` in a script: the file is a few milliseconds old."""
    tree = Tree(tmp_path / "tree").write({"x.py": "print('ran')\n", "mine.py": ""})
    time.sleep(RACY)
    argv = empty.argv("--image-build", tree / "y.py", preload=preload, explain=False)
    script = 'cp "$0/x.py" "$0/y.py"; cp "$0/x.py" "$0/unrelated.py"; exec "$@"'
    built = subprocess.run(["bash", "-c", script, str(tree), *argv], env=empty.env(), cwd=empty.cwd, capture_output=True, text=True, timeout=120)  # fmt: skip
    assert built.returncode == 0, built.stderr
    got = empty(tree / "y.py", preload=preload)
    assert restored(got) and got.out == "ran\n", got.err


@pytest.mark.parametrize(
    ("file", "source", "why"),
    [
        ("sitecustomize.py", "import threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n", "left a thread: " + SLEEPER),
        ("sitecustomize.py", "import os\nfd = os.open('/dev/null', os.O_RDONLY)\n", "left a descriptor open"),
        ("mine.py", "import os\nkept = os.environ['API_KEY']\n", "copied the value of API_KEY"),
        ("mine.py", "import pathlib, time\npathlib.Path(__file__).with_name('own').write_text(str(time.time()))\nopen(pathlib.Path(__file__).with_name('own')).read()\n", "changed less than two seconds before"),
    ],
    ids=["thread", "descriptor", "secret", "writes what it reads"],
)  # fmt: skip
def test_image_build_names_the_refusal(empty, tmp_path, file, source, why):
    lib = Tree(tmp_path / "lib").write({"mine.py": "", file: source})
    time.sleep(RACY)
    env = {"PYTHONPATH": str(lib), "API_KEY": "secret-0123456789"}
    built = empty.build("-c", "print('ran')", preload=["import mine"], env=env)
    assert (built.code, built.out) == (1, "")
    assert built.err.startswith("pylaunch: error: --image-build: no image was made\n  cause: ")
    assert why in built.err and "\n  hint:  " in built.err
    assert not empty.images()


def test_image_build_refuses_before_it_starts_python(empty):
    for args, why in {
        ("-v", "-c", "pass"): (1, "imports are to be reported"),
        ("no-such-file.py",): (2, "no such file: no-such-file.py"),
    }.items():
        built = empty.build(*args)
        assert built.code == why[0] and why[1] in built.err, built.err
    for mode in ("off", "readonly", "sealed"):
        built = empty.build("-c", "pass", flags=[f"--cache-mode={mode}"])
        assert built.code == 2 and mode in built.err
    assert not empty.images("*")


def test_image_build_passes_on_what_stops_a_launch(empty):
    built = empty.build("-c", "pass", preload=["import no_such_module"])
    assert (
        built.code == 1 and "required entry" in built.err and "no image was made" not in built.err
    )


def test_image_build_in_an_unwritable_folder(empty):
    empty.cache.parent.mkdir(exist_ok=True)
    empty.cache.write_text("a file")
    built = empty.build("-c", "pass")
    assert built.code == 1 and str(empty.cache) in built.err and "hint:" in built.err


def test_image_build_where_the_image_does_not_fit(empty):
    argv = empty.argv("--image-build", "-c", "pass", explain=False)
    built = subprocess.run(["prlimit", "--fsize=1000000", *argv], env=empty.env(), cwd=empty.cwd, capture_output=True, text=True)  # fmt: skip
    assert built.returncode == 1 and "cannot be written: File too large" in built.stderr
    assert [path.suffix for path in empty.images("*")] == [".note"]


def test_image_build_whose_writer_is_killed(empty):
    argv = empty.argv("--image-build", "-c", "pass", explain=False)
    images = empty.cache / "images"
    process = start(argv, empty.env(), empty.cwd)
    while not (found := [*images.glob("*.tmp"), *images.glob("*.key")]):
        assert process.poll() is None
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            if any(os.readlink(fd) == str(found[0]) for fd in Path("/proc", entry, "fd").iterdir()):
                os.kill(int(entry), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    if empty.images("*.key"):
        pytest.skip("the writer was quicker")
    assert process.returncode == 1 and b"ended before it was done" in err
    assert empty.build("-c", "pass").code == 0  # What it left is in nobody's way.


def test_image_builds_at_once(empty):
    argv = empty.argv("--image-build", "-c", "pass", explain=False)
    running = [start(argv, empty.env(), empty.cwd) for _ in range(4)]
    ended = [(process.communicate(timeout=60), process.returncode) for process in running]
    assert [code for _, code in ended] == [0] * 4, ended
    assert len(empty.images("*")) == 3 and restored(empty("-c", "pass"))


def test_of_starts_at_once_one_writes_the_image(empty):
    """Workers that are started together would else write as many, and all but one for nothing."""
    lib = empty.folder / "lib"
    lib.mkdir()
    (lib / "big.py").write_text("held = bytes(range(1, 256)) * 400_000\n")
    time.sleep(RACY)
    argv = empty.argv("-c", "pass", preload=["import big"], explain=False)
    env = {**empty.env(), "PYTHONPATH": str(lib)}
    del env["PYLAUNCH_SEAL"]
    running = [start(argv, env, empty.cwd) for _ in range(6)]
    written = set()
    deadline = time.monotonic() + 60
    while any(x.poll() is None for x in running) or not empty.images("*.key"):
        assert time.monotonic() < deadline
        for path in empty.images("*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_size > 0:
                    written.add(path)
        time.sleep(0.002)
    for process in running:
        assert (process.communicate()[0], process.returncode) == (b"", 0)
    assert len(written) == 1
    assert restored(empty("-c", "pass", preload=["import big"], env={"PYTHONPATH": str(lib)}))


def test_image_build_draws_a_bar_on_terminals_only(empty):
    lib = empty.folder / "lib"
    lib.mkdir()
    # Enough that it takes a while to be written; nothing drawn, which would be late.
    (lib / "big.py").write_text("import _sha3; held = _sha3.shake_128(b'').digest(1 << 20) * 100\n")
    time.sleep(RACY)
    preload = ["import json", "import wave, decimal", "import big"]
    argv = empty.argv("--image-build", "-c", "pass", preload=preload, explain=False)
    env = {**empty.env(), "TERM": "xterm", "PYTHONPATH": str(lib)}
    code, shown = tty_session(argv, env, empty.cwd, [])
    assert code == 0 and "] 3/4 entries" in shown and "made in" in shown
    assert re.search(r"\[[#.]+\] \d+/\d+ MiB", shown), shown
    assert shown.index("entries") < shown.index("MiB\x1b")


# ---------------------------------------------------------------------------------------------- checkouts that are gone


def test_archive_and_images_of_a_checkout_that_is_gone(lab, tmp_path):
    lab.need_pylaunch()
    checkout = tmp_path / "checkout"
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", checkout / "venv"], check=True)
    time.sleep(RACY)
    shelf = Imaged(lab, tmp_path / "image")
    env = {"PYLAUNCH_PYTHON": str(checkout / "venv/bin/python")}

    def tool(*flags, cwd=shelf.cwd) -> Result:
        argv = [str(lab.pylaunch), "--cache", str(shelf.cache), *flags]
        done = subprocess.run(argv, env=shelf.env(env), cwd=cwd, capture_output=True, text=True, timeout=60)  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    assert tool("--image-build", "--preload=import json", "-c", "pass", cwd=checkout).code == 0
    shelf.make("-c", "pass", preload=["import json"])  # Of another Python, which stays.
    before = tool("--stats", "--json").json
    assert [x["environment_gone"] for x in before["archives"]] == [False, False]
    shutil.rmtree(checkout)
    after = tool("--stats", "--json").json
    assert sorted(x["environment_gone"] for x in after["archives"]) == [False, True]
    assert sorted(x["state"] for x in after["images"]) == ["dead", "valid"]
    assert f"dead     {checkout}/venv is gone" in tool("--stats").out
    assert len(tool("--prune", "--json").json["removed"]) == 2
    left = tool("--stats", "--json").json
    assert len(left["archives"]) == 1 and [x["state"] for x in left["images"]] == ["valid"]
