"""The wheel, installed without a network as a user would, does what the build folder does.

It is packed of what was built, which takes ten seconds, so that each Python can be tried. What
`pip install .` builds itself is tried by --all.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, Result, clean_environment, finish, start
from imaged import RACY

pytestmark = pytest.mark.one_worker
TAGS = "py3-none-manylinux_2_28_x86_64"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
SAY = "import sys, json; print(json.dumps([sys.prefix, sys.version, sys.argv[1:]]))"
FIND = "import pylaunch; print(pylaunch.find_pylaunch_bin())"
SHARED = [
    "share/bash-completion/completions/pylaunch",
    "share/fish/vendor_completions.d/pylaunch.fish",
    "share/man/man1/pylaunch.1",
    "share/zsh/site-functions/_pylaunch",
]


@pytest.fixture(scope="session")
def wheel(lab, tmp_path_factory) -> Path:
    lab.need_pylaunch()
    if made := os.environ.get("PYLAUNCH_TEST_WHEEL"):
        return Path(made)
    command = [ROOT / "scripts/wheel", "--as-built", tmp_path_factory.mktemp("dist")]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    return Path(made.stdout.strip())


class Installation:
    """A fresh virtual environment, or another folder, that pip has put the wheel into."""

    def __init__(self, lab, folder: Path):
        self.lab, self.folder = lab, folder
        self.python = folder / "bin/python"
        self.pylaunch = folder / "bin/pylaunch"
        self.cache = folder.parent / "cache"

    def run(self, *command, env=None, **kwargs) -> Result:
        process = start(command, self.env(env), self.folder.parent, **kwargs)
        code, out, err = finish(process, timeout=1800)  # Compiling takes long.
        return Result(code, out.decode(), err.decode())

    def env(self, extra=None) -> dict[str, str]:
        told = {"PYLAUNCH_CACHE": str(self.cache), "PYLAUNCH_SEAL": "wait", **(extra or {})}
        return clean_environment(self.lab.home, **told)

    def pip(self, *words, env=None) -> None:
        done = self.run(*PIP, "--quiet", "--python", self.python, *words, env=env)
        assert done.code == 0, done.err

    def install(self, wheel: Path, *words, env=None) -> None:
        self.pip("install", "--no-index", "--no-deps", *words, wheel, env=env)

    def files(self) -> set[str]:
        return {str(x.relative_to(self.folder)) for x in self.folder.rglob("*")}


def virtual_environment(lab, folder: Path) -> Installation:
    env = clean_environment(lab.home)
    command = [lab.python, "-m", "venv", "--without-pip", folder]
    subprocess.run(command, env=env, check=True)
    return Installation(lab, folder)


@pytest.fixture(scope="session")
def venv(lab, wheel, tmp_path_factory) -> Installation:
    venv = virtual_environment(lab, tmp_path_factory.mktemp("wheel") / "venv")
    venv.install(wheel)
    return venv


def test_one_wheel_has_every_engine_and_what_goes_with_it(wheel):
    assert re.fullmatch(rf"pylaunch-[0-9.]+-{TAGS}\.whl", wheel.name)
    assert wheel.stat().st_size <= 12_000_000
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    data = [x.partition(".data/data/")[2] for x in names]
    built = list((ROOT / "build").glob("engine-cpython-3.*.so"))
    engines = [x for x in data if x.startswith("libexec/pylaunch/engine-cpython-3.")]
    assert len(engines) == len(built) > 0
    assert set(SHARED) < set(data)
    notices = [x for x in data if x.startswith("share/doc/pylaunch/copyright/")]
    assert {"libabsl-dev", "libc6-dev", "libzstd-dev"} < {Path(x).name for x in notices}
    assert [x for x in names if x.endswith(".data/scripts/pylaunch")]
    assert not [x for x in names if "/test" in x or x.endswith(".pyc")]


@pytest.mark.skipif(shutil.which("readelf") is None, reason="binutils has readelf")
def test_no_engine_asks_the_linker_for_what_glibc_2_28_lacks(lab):
    """What has no version would be looked for in vain; what is weak may be."""
    for engine in lab.pylaunch.parent.glob("engine-cpython-*.so"):
        table = subprocess.check_output(["readelf", "-W", "--dyn-syms", engine], text=True)
        wanted = re.findall(r"GLOBAL +DEFAULT +UND (\S+)", table)
        versions = {x.partition("@")[2] for x in wanted if "@" in x}
        newest = max(tuple(map(int, x.split("_")[1].split("."))) for x in versions)
        assert newest == (2, 28)
        assert not [x for x in wanted if "@" not in x and not re.match("_?Py", x)]


@pytest.mark.every_python
def test_a_program_runs_on_the_environments_python(venv):
    expected = venv.run(venv.python, "-c", SAY, "a", "b c")
    assert expected.json[0] == str(venv.folder)
    for command in ([venv.pylaunch], [venv.python, "-m", "pylaunch"]):
        assert venv.run(*command, "-c", SAY, "a", "b c") == expected
    version = venv.run(venv.pylaunch, "--version")
    minor = "{}.{}".format(*venv.lab.version)
    assert f"engine cpython-{minor}" in version.out


@pytest.mark.every_python
def test_the_second_start_has_the_archive_and_the_third_an_image(venv, tree):
    tree.write({"warm.py": "import json, decimal\n", "program.py": "import warm\nprint('ran')\n"})
    tree.write({"configs.txt": "import warm\n"})
    preload = [venv.pylaunch, "--explain", f"--preload={tree / 'configs.txt'}"]
    first, second = (venv.run(*preload, tree / "program.py") for _ in range(2))
    assert (first.code, first.out) == (second.code, second.out) == (0, "ran\n")
    hits, misses, stale = second.archive_counts()
    assert hits > 10 and misses + stale == 0
    time.sleep(RACY)  # Nothing is proved by files that are younger.
    words = ["--image", *preload[1:], tree / "program.py"]
    made = venv.run(venv.pylaunch, "--image-build", *words[1:])
    assert made.code == 0, made.err
    restored = venv.run(venv.pylaunch, *words)
    assert (restored.code, restored.out) == (0, "ran\n")
    assert re.search(r"explain: image: \S+\.img", restored.err), restored.err


@pytest.mark.every_python
def test_the_doctor_finds_a_fresh_environment_well(venv):
    report = venv.run(venv.pylaunch, "--doctor", "--json")
    assert (report.code, report.err) == (0, "")
    assert json.loads(report.out)


@pytest.mark.every_python
def test_command_starts_a_program_warm_on_this_python_from_anywhere(venv, tree):
    tree.write({"my configs.txt": "import decimal\n"})
    program = (
        "import json, pathlib, pylaunch; print(json.dumps([pylaunch.command(),"
        " pylaunch.command(preload='my configs.txt'),"
        " pylaunch.command(preload=[pathlib.Path('my configs.txt'), 'import wave'], image=True)]))"
    )
    for launcher in (venv.python, venv.pylaunch):  # Under pylaunch sys.executable is pylaunch.
        process = start([launcher, "-c", program], venv.env(), tree.root)
        bare, one, both = json.loads(finish(process)[1])
        assert bare == [str(venv.pylaunch), f"--python={venv.folder}"]
        assert one == [*bare, f"--preload=@{tree / 'my configs.txt'}"]
        assert both == [*one, "--preload=import wave", "--image"]
        names = venv.run(*one, "-c", "import sys; print(sys.prefix, 'decimal' in sys.modules)")
        assert (names.code, names.out) == (0, f"{venv.folder} True\n")


def test_command_names_what_is_missing(venv, tmp_path):
    package = next(venv.folder.glob("lib/python*/site-packages/pylaunch"))
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone/pylaunch").symlink_to(package)
    alone = venv.run(venv.python, "-m", "pylaunch", env={"PYTHONPATH": str(tmp_path / "alone")})
    assert alone.code == 1
    assert alone.err.startswith("pylaunch: error: no pylaunch beside ")
    assert "\n  hint:  install pylaunch again" in alone.err


WAYS = ["user", "prefix", "target", "root"]


@pytest.mark.parametrize("way", WAYS)
def test_it_is_found_wherever_pip_puts_it(lab, wheel, tmp_path, way):
    """Of each way there is one pylaunch; another that stands on PATH is not taken."""
    place = Installation(lab, tmp_path / "place")
    place.python = lab.python
    env = {"PATH": f"/nowhere:{os.environ['PATH']}"}
    words = {
        "user": ["--user"],
        "prefix": ["--prefix", place.folder],
        "target": ["--target", place.folder],
        "root": ["--root", place.folder],
    }[way]
    if way == "user":
        env["PYTHONUSERBASE"] = str(place.folder)
    env["PIP_BREAK_SYSTEM_PACKAGES"] = "1"  # Nothing of the system is touched here.
    place.install(wheel, "--no-warn-script-location", *words, env=env)
    packages = [x.parent.parent for x in place.folder.rglob("pylaunch/__main__.py")]
    if way != "user":
        env["PYTHONPATH"] = str(packages[0])
    found = place.run(lab.python, "-c", FIND, env=env)
    assert found.code == 0, found.err
    assert [found.out.strip()] == [str(x) for x in place.folder.rglob("bin/pylaunch")]
    ran = place.run(lab.python, "-m", "pylaunch", "-c", "print('ran')", env=env)
    assert (ran.code, ran.out, ran.err) == (0, "ran\n", "")


def test_uninstalling_leaves_nothing(lab, wheel, tmp_path):
    venv = virtual_environment(lab, tmp_path / "venv")
    before = venv.files()
    venv.install(wheel)
    assert {"bin/pylaunch", *SHARED} < venv.files()
    assert venv.run(venv.pylaunch, "-c", "import pylaunch").code == 0
    assert venv.run(venv.pylaunch, "--doctor").code == 0
    venv.pip("uninstall", "--yes", "pylaunch")
    left = venv.files() - before
    assert not {x for x in left if "pylaunch" in x}
    assert not [x for x in left if (venv.folder / x).is_file()]


RUNNING = """
import sys
print("begun", flush=True)
sys.stdin.readline()
import decimal, subprocess, wave
if sys.argv[1] == "upgrade":
    subprocess.run([sys.executable, "-c", "print('child')"], check=True)
print("ended")
"""


@pytest.mark.slow
@pytest.mark.parametrize("change", ["upgrade", "uninstall"])
@pytest.mark.parametrize("option", ["", "--image", "--report=report.json"])
def test_what_runs_meanwhile_runs_on(lab, wheel, tmp_path, tree, change, option):
    venv = virtual_environment(lab, tmp_path / "venv")
    venv.install(wheel)
    tree.write({"program.py": RUNNING, "warm.py": ""})
    time.sleep(RACY if option == "--image" else 0)
    options = [x for x in (option, "--preload=import json") if x]
    command = [venv.pylaunch, *options, tree / "program.py", change]
    if option == "--image":
        made = venv.run(venv.pylaunch, "--image-build", *command[2:])
        assert made.code == 0, made.err
    process = start(command, venv.env(), tmp_path, stdin=subprocess.PIPE)
    assert process.stdout.readline() == b"begun\n"
    if change == "upgrade":
        venv.install(wheel, "--force-reinstall")
    else:
        venv.pip("uninstall", "--yes", "pylaunch")
    code, out, err = finish(process, b"\n")
    ends = ["child", "ended"] if change == "upgrade" else ["ended"]
    assert (code, out.decode().splitlines()) == (0, ends), err.decode()
    if change == "upgrade":
        assert err == b""
        assert not option.startswith("--report") or (tmp_path / "report.json").exists()


@pytest.mark.full
def test_pip_install_from_a_checkout_builds_for_this_python(lab, tmp_path):
    """pip builds in an environment of its own, with the network; all that it needs is Debian's."""
    venv = virtual_environment(lab, tmp_path / "venv")
    settings = f"--config-settings=cmake.define.PYLAUNCH_PYTHONS={lab.python}"
    venv.pip("install", settings, ROOT)
    ran = venv.run(venv.pylaunch, "--explain", "-c", "print('ran')")
    assert (ran.code, ran.out) == (0, "ran\n")
    assert "sealing" in ran.err
