"""An image that was made elsewhere holds here if all that it was made of has the same content."""

import os
import shutil
import stat
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import Tree
from imaged import (
    PYTHON,
    RACY,
    Imaged,
    bound,
    change_key,
    has,
    in_other_boot,
    reason,
    restored,
    write_unseen,
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ELSEWHERE = "made on another host, in another boot or of other copies of its files"
PROGRAM = "import mine; print(mine.x, mine.data)"


class Travel:
    """An image of a small package, and starts that find it elsewhere."""

    def __init__(self, image):
        self.image = image
        self.lib = image.folder / "lib"
        Tree(self.lib).write(
            {
                "mine/__init__.py": "x = 1\n"
                "with open(__path__[0] + '/data.txt') as file: data = file.read()\n",
                "mine/data.txt": "some",
            }
        )
        (self.lib / "link").symlink_to("mine/data.txt")
        time.sleep(RACY)
        assert self.start().out == "1 some\n"
        assert self.image.images("*.digests")

    def start(self, *options, **kwargs):
        env = {"PYTHONPATH": str(self.lib), **kwargs.pop("env", {})}
        return self.image(*options, "-c", PROGRAM, preload=["import mine"], env=env, **kwargs)

    def adopted(self) -> list[Path]:
        return self.image.images("*.adopted-*")

    def copy(self, *, settled=True):
        """Other inodes and times, as in a fresh container."""
        shutil.move(self.lib, self.image.folder / "old")
        shutil.copytree(self.image.folder / "old", self.lib, symlinks=True)
        if settled:
            time.sleep(RACY)


@pytest.fixture
def travel(image):
    return Travel(image)


def is_adopted_now(got) -> bool:
    return restored(got) and ELSEWHERE in got.err


def test_files_that_were_copied_are_proved_by_content_once(travel):
    assert restored(travel.start())
    travel.copy()
    got = travel.start()
    assert is_adopted_now(got) and got.out == "1 some\n", got.err
    (key,) = travel.adopted()
    assert key.stat().st_mode & 0o777 == 0o600
    for _ in range(2):
        later = travel.start()
        assert restored(later) and ELSEWHERE not in later.err, later.err
    assert len(travel.image.images()) == 1


def test_nothing_is_noted_of_what_may_change_unseen(travel):
    travel.copy(settled=False)
    assert is_adopted_now(travel.start()) and not travel.adopted()
    time.sleep(RACY)
    assert is_adopted_now(travel.start()) and travel.adopted()


@pytest.mark.parametrize("what", ["mine/__init__.py", "mine/data.txt", "link", "new.py"])
def test_a_copy_with_another_content_is_none(travel, what):
    travel.copy()
    assert restored(travel.start())
    if what == "link":
        (travel.lib / what).unlink()
        (travel.lib / what).symlink_to("mine/data.tx")
    elif what == "new.py":
        (travel.lib / what).write_text("")
    else:
        text = (travel.lib / what).read_text()
        (travel.lib / what).write_text(text.replace("1", "2").replace("some", "same"))
    time.sleep(RACY)
    got = travel.start()
    if what == "link":  # Nobody asked about it.
        assert restored(got)
        return
    assert not restored(got), got.err
    assert reason(got).endswith(" changed") and str(travel.lib) in reason(got)
    assert got.out == {"mine/__init__.py": "2 some\n", "mine/data.txt": "1 same\n"}.get(
        what, "1 some\n"
    )
    assert restored(travel.start())


@pytest.fixture
def boot(tmp_path):
    return in_other_boot(tmp_path)


@needs_root
@pytest.mark.parametrize("mode", ["auto", "readonly", "sealed"])
def test_after_a_reboot(travel, boot, mode):
    got = travel.start("--cache-mode", mode, wrap=boot)
    assert is_adopted_now(got) and got.out == "1 some\n", got.err
    assert len(travel.adopted()) == (mode == "auto")
    later = travel.start("--cache-mode", mode, wrap=boot)
    assert restored(later) and (ELSEWHERE in later.err) == (mode != "auto"), later.err
    assert restored(travel.start())  # In the first boot.
    assert len(travel.image.images()) == 1


@needs_root
def test_with_another_copy_of_pylaunch_itself(lab, installed, tmp_path):
    library = installed / "libexec/pylaunch"
    own = SimpleNamespace(pylaunch=installed / "bin/pylaunch", home=lab.home)
    travel = Travel(Imaged(own, tmp_path / "image"))
    shutil.copytree(library, tmp_path / "copy")
    time.sleep(RACY)
    wrap = bound(tmp_path / "copy", library)
    assert is_adopted_now(travel.start(wrap=wrap))
    # Both copies are in use side by side.
    for _ in range(2):
        for where in (wrap, []):
            got = travel.start(wrap=where)
            assert restored(got) and ELSEWHERE not in got.err, got.err
    (tmp_path / "copy/resume/resume.py").write_text("raise RuntimeError")
    time.sleep(RACY)
    got = travel.start(wrap=wrap)
    assert reason(got).endswith("resume/resume.py changed"), got.err


# ---------------------------------------------------------------------------- other machines

CRASHES = """
import os
def renew():
    if os.path.exists("{flag}"):
        {crash}
os.register_at_fork(after_in_child=renew)
"""
FAULTS = {
    "illegal instruction": ("os.kill(os.getpid(), 4)", "it dies of Illegal instruction"),
    "nothing": ("pass", ""),
}


def of_an_older_kernel(key: Path) -> None:
    major, minor = os.uname().release.split(".")[:2]
    other = f"{major}.{int(minor) - 1:0{len(minor)}}."
    assert int(minor) > 0
    change_key(key, {f"{major}.{minor}.".encode(): other.encode()})


@pytest.mark.parametrize(
    ("machine", "fault"),
    [("same", "illegal instruction"), ("other", "illegal instruction"), ("other", "nothing")],
)
def test_on_another_machine_it_is_tried_first(image, machine, fault):
    crash, words = FAULTS[fault]
    flag = image.folder / "flag"
    lib = Tree(image.folder / "lib").write({"mine.py": CRASHES.format(flag=flag, crash=crash)})
    time.sleep(RACY)
    setup = {"preload": ["import mine"], "env": {"PYTHONPATH": str(lib)}}
    image.make("-c", "pass", **setup)
    (key,) = image.images("*.key")
    if machine == "other":
        of_an_older_kernel(key)
    else:  # Of other copies: what has been tried here, runs here.
        shutil.move(image.folder / "lib", image.folder / "old")
        shutil.copytree(image.folder / "old", image.folder / "lib")
        time.sleep(RACY)
    flag.touch()
    got = image("-c", "print(1)", **setup)
    if fault == "nothing":
        assert is_adopted_now(got) and image.images("*.adopted-*")
        return
    if machine == "same":
        assert got.code not in (0, 77) and not got.out
        return
    assert (got.out, got.code, reason(got)) == (
        "1\n",
        0,
        f"no process can be restored from it: {words}",
    ), got.err
    assert not image.images("*.adopted-*")
    (note,) = image.images(f"{key.stem}.*.note")
    assert words in note.read_text() and stat.S_IMODE(note.stat().st_mode) == 0o600
    later = image("-c", "print(1)", **setup)
    assert later.out == "1\n" and f"{words}; tried again an hour after that" in reason(later)
    # After an hour.
    for path in image.images("*.note"):
        os.utime(path, (time.time() - 3700,) * 2)
    flag.unlink()
    assert is_adopted_now(image("-c", "print(1)", **setup))


COUNTING = {
    "nobody": "",
    "cpu_count": "import os; x = os.cpu_count()",
    "sched_getaffinity": "import os; x = os.sched_getaffinity(0)",
    "sysconf": "import os; x = os.sysconf('SC_NPROCESSORS_CONF')",
    "get_nprocs": "import ctypes; x = ctypes.CDLL(None).get_nprocs()",
    "syscall": "import ctypes; x = ctypes.CDLL(None).syscall(204, 0, 0, None)",
    "page size": "import os; x = os.sysconf('SC_PAGE_SIZE')",
}


@pytest.mark.skipif(os.cpu_count() < 2, reason="needs two processors")
@pytest.mark.parametrize("question", COUNTING)
def test_on_other_processors_and_on_more_if_nobody_counted_them(image, question):
    Tree(image.folder / "lib").write({"counting.py": COUNTING[question] + "\n"})
    time.sleep(RACY)
    setup = {"preload": ["import counting"], "env": {"PYTHONPATH": str(image.folder / "lib")}}
    image.make("-c", "pass", wrap=["taskset", "1"], **setup)
    got = image("-c", "pass", wrap=["taskset", "2"], **setup)
    assert is_adopted_now(got), got.err
    more = image("-c", "pass", **setup)
    assert restored(more) == (question in ("nobody", "page size")), more.err
    if not restored(more):
        assert reason(more) == "number of processor affinity changed"


@pytest.mark.slow
@pytest.mark.skipif(os.cpu_count() < 2 or not has("torch"), reason="two processors, torch")
@pytest.mark.parametrize("made, used", [("1", "3"), ("3", "1"), ("1", "2")])
def test_libraries_have_as_many_threads_as_under_stock(image, made, used):
    """Of torch (MKL, OpenMP) and of numpy's OpenBLAS: on more processors, fewer, others."""
    program = """if True:
        import ctypes, glob, os, numpy, torch
        (path,) = glob.glob(os.path.dirname(numpy.__file__) + "/../numpy.libs/libscipy_openblas*")
        blas = ctypes.CDLL(path)
        print(torch.get_num_threads(), torch.get_num_interop_threads(), os.cpu_count())
        print([getattr(blas, f"scipy_openblas_get_num_{x}64_")() for x in ("threads", "procs")])
        a = numpy.ones((400, 400))
        print((torch.from_numpy(a) @ torch.from_numpy(a)).sum().item(), (a @ a).sum())
    """
    preload = ["import numpy, torch"]
    image.make("-c", "pass", preload=preload, wrap=["taskset", made])
    got = image("-c", program, preload=preload, wrap=["taskset", used])
    assert restored(got) == ((made, used) == ("1", "2")), got.err
    assert got.out == image.stock("-c", program, wrap=["taskset", used]).out


@needs_root
@pytest.mark.skipif(not has("transformers"), reason="needs transformers")
def test_transformers_after_a_reboot(image, boot):
    preload = ["from transformers import Trainer"]
    image.make("-c", "pass", preload=preload)
    program = "from filelock import _identity\nprint(hex(_identity._BOOT_ID))"
    got = image("-c", program, preload=preload, wrap=boot)
    assert is_adopted_now(got), got.err
    assert got.out == "0x11111111222233334444555555555555\n"


@needs_root
def test_sealed_trusts_no_folder_that_others_can_write_to(travel, boot):
    (travel.image.cache / "images").chmod(0o777)
    got = travel.start("--cache-mode", "sealed", wrap=boot)
    assert not restored(got) and "others can write there" in reason(got), got.err
    assert got.out == "1 some\n"


@needs_root
def test_what_forbids_it_is_told_not_what_would_travel(travel, boot):
    got = travel.start(wrap=boot, env={"LC_NEW": "1"})
    assert reason(got) == "none for this state: variable LC_NEW is new", got.err


@needs_root
@pytest.mark.parametrize("damage", ["gone", "truncated", "flipped", "empty"])
def test_without_whole_digests_it_stays_where_it_was_made(travel, boot, damage):
    (digests,) = travel.image.images("*.digests")
    data = digests.read_bytes()
    if damage == "gone":
        digests.unlink()
    else:
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        digests.write_bytes({"truncated": data[:-1], "flipped": flipped, "empty": b""}[damage])
    got = travel.start(wrap=boot)
    assert not restored(got) and got.out == "1 some\n"
    words = "is not there" if damage == "gone" else "is damaged"
    assert f"{digests} {words}" in reason(got), got.err
    assert restored(travel.start())


@needs_root
def test_a_damaged_image_is_not_adopted(travel, boot):
    (img,) = travel.image.images()
    write_unseen(img)
    got = travel.start(wrap=boot)
    assert not restored(got) and "damaged" in reason(got), got.err


@needs_root
def test_a_damaged_note_of_adoption_is_made_anew(travel, boot):
    assert is_adopted_now(travel.start(wrap=boot))
    (key,) = travel.adopted()
    key.write_bytes(key.read_bytes()[:100])
    assert is_adopted_now(travel.start(wrap=boot))
    later = travel.start(wrap=boot)
    assert restored(later) and ELSEWHERE not in later.err, later.err


@needs_root
def test_eight_at_once(travel, boot):
    argv = [*boot, *travel.image.argv("-c", PROGRAM, preload=["import mine"])]
    env = travel.image.env({"PYTHONPATH": str(travel.lib)})
    running = [
        subprocess.Popen(
            argv, env=env, cwd=travel.image.cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(8)
    ]
    for process in running:
        out, err = process.communicate(timeout=60)
        assert (out, process.returncode) == (b"1 some\n", 0)
        assert b".img\n" in err, err
    assert len(travel.adopted()) == 1
    assert len(list((travel.image.cache / "images").iterdir())) == 4


@needs_root
def test_tools_say_that_it_is_elsewhere(travel, boot):
    def stats():
        argv = [*boot, travel.image.lab.pylaunch, "--cache", travel.image.cache, "--stats"]
        env = travel.image.env({"PYTHONPATH": str(travel.lib)})
        return subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout

    assert "state    elsewhere: made on another host" in stats()
    assert restored(travel.start(wrap=boot))
    assert "state    valid" in stats()
    argv = [*boot, travel.image.lab.pylaunch, "--cache", travel.image.cache, "--prune"]
    subprocess.run(argv, env=travel.image.env(), check=True, capture_output=True)
    assert restored(travel.start(wrap=boot)) and restored(travel.start())


# -------------------------------------------------------------------------------- who runs it

RIGHTS = {
    "groups": ["setpriv", "--groups", "5"],
    "capabilities": ["setpriv", "--bounding-set=-dac_override,-dac_read_search"],
}
ASKING = {
    "getuid": "import os; x = os.getuid()",
    "expanduser": "import pwd; x = pwd.getpwuid(0).pw_dir",
    "access": "import os; x = os.access('/', os.W_OK)",
    "getgroups": "import os; x = os.getgroups()",
    "ctypes": "import ctypes; x = ctypes.CDLL(None).geteuid()",
}


@needs_root
@pytest.mark.parametrize("rights", RIGHTS)
def test_who_may_do_less_reads_all_files_first(travel, rights):
    wrap = RIGHTS[rights]
    assert is_adopted_now(travel.start(wrap=wrap))
    later = travel.start(wrap=wrap)
    assert restored(later) and ELSEWHERE not in later.err, later.err
    (travel.lib / "mine/data.txt").chmod(0o600)
    time.sleep(RACY)
    assert not restored(travel.start(wrap=wrap))


@needs_root
@pytest.mark.parametrize("question", ASKING)
def test_what_asks_who_runs_it_is_for_those_rights(image, question):
    Tree(image.folder / "lib").write({"asking.py": ASKING[question] + "\n"})
    time.sleep(RACY)
    setup = {"preload": ["import asking"], "env": {"PYTHONPATH": str(image.folder / "lib")}}
    image.make("-c", "pass", **setup)
    assert restored(image("-c", "pass", **setup))
    for wrap in RIGHTS.values():
        got = image("-c", "pass", wrap=wrap, **setup)
        assert not restored(got) and reason(got).startswith("none for this state"), got.err


@needs_root
def test_what_the_user_database_says_is_proved(image, tmp_path):
    Tree(image.folder / "lib").write({"asking.py": ASKING["expanduser"] + "\n"})
    users = Path("/etc/passwd").read_text()
    (tmp_path / "same").write_text(users)
    (tmp_path / "other").write_text(users.replace(":/root:", ":/tmp_:", 1))
    for name in ("same", "other"):
        (tmp_path / name).chmod(Path("/etc/passwd").stat().st_mode & 0o777)
    time.sleep(RACY)
    setup = {"preload": ["import asking"], "env": {"PYTHONPATH": str(image.folder / "lib")}}
    image.make("-c", "pass", **setup)
    show = "import asking; print(asking.x)"
    for name, home in {"same": "/root", "other": "/tmp_"}.items():
        got = image("-c", show, wrap=bound(tmp_path / name, "/etc/passwd"), **setup)
        assert (got.out, restored(got)) == (home + "\n", name == "same"), got.err


NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@pytest.fixture
def open_world(image, tmp_path):
    """All folders on the way may be searched by everybody."""
    for folder in [image.folder, *image.folder.parents]:
        if folder in (Path("/"), Path("/tmp")):
            break
        folder.chmod(folder.stat().st_mode | 0o755)
    return image


def build(image, *options, env=None, preload=("import json",)):
    argv = image.argv("--image-build", *options, "-c", "pass", preload=list(preload), explain=False)
    done = subprocess.run(
        argv, env=image.env(env), cwd=image.cwd, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


def is_for_everybody(python: str) -> bool:
    path = Path(python).resolve()
    return path.exists() and all(p.stat().st_mode & 0o005 == 0o005 for p in path.parents)


@needs_root
def test_an_image_that_was_made_for_others(open_world):
    image = open_world
    image.python = next(filter(is_for_everybody, (PYTHON, "/usr/bin/python3")), None)
    if image.python is None:
        pytest.skip("no Python here is for everybody")
    env = {"HOME": "/", "PYLAUNCH_INIT": "never"}
    code, err = build(image, "--shared", env=env)
    assert code == 0, err
    for path in image.images("*"):
        assert path.stat().st_mode & 0o777 == 0o644, path
    show = "import os, json; print(os.getuid(), os.geteuid(), json.dumps([1]))"
    for wrap, uid in ([], 0), (NOBODY, 65534):
        got = image("-c", show, preload=["import json"], env=env, wrap=wrap)
        assert restored(got) and got.out == f"{uid} {uid} [1]\n", got.err
    assert len(image.images()) == 1
    # Without the word it is nobody else's.
    shutil.rmtree(image.cache)
    assert build(image, env=env)[0] == 0
    subprocess.run(["chmod", "-R", "a+rX", image.cache], check=True)
    got = image("-c", show, preload=["import json"], env=env, wrap=NOBODY)
    assert not restored(got) and reason(got) == "none for this state: user changed"
    assert got.out == "65534 65534 [1]\n"


@needs_root
def test_what_is_not_for_everybody_is_not_shared(open_world):
    image = open_world
    lib = Tree(image.folder / "lib").write({"mine.py": "", "asking.py": ASKING["getuid"]})
    (lib / "mine.py").chmod(0o600)
    time.sleep(RACY)
    env = {"PYTHONPATH": str(lib)}
    code, err = build(image, "--shared", env=env, preload=["import mine"])
    assert code == 1 and f"{lib / 'mine.py'} is not for everybody to read" in err
    code, err = build(image, "--shared", env=env, preload=["import asking"])
    assert code == 1 and "preloading has asked who runs it" in err
    code, err = build(image, "--shared", "--image-allow=X_TOKEN", env=env)
    assert code == 2 and "--shared is for images that hold no secret" in err
    secret = {"MY_TOKEN": "swordfish-and-more", **env}
    Tree(image.folder / "lib").write({"kept.py": "import os; x = os.environ['MY_TOKEN']\n"})
    time.sleep(RACY)
    code, err = build(image, "--shared", env=secret, preload=["import kept"])
    assert code == 1 and "MY_TOKEN" in err
    assert not image.images()
