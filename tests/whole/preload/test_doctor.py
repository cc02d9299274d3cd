# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""--doctor, and the same diagnosis on a preload entry that fails: each illness by its real reproduction, and no false alarm."""

from __future__ import annotations

import base64
import contextlib
import ctypes.util
import hashlib
import importlib.util
import json
import os
import random
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT, clean_environment, serial, tty_session

LAUNCHER_FOLDER = ROOT / "launcher/python"
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")


# ---------------------------------------------------------------------------------------------- environments


@dataclass
class Venv:
    prefix: Path
    lab: object

    @property
    def site(self) -> Path:
        return self.prefix / "lib" / f"python{VERSION}" / "site-packages"

    def install(self, *requirements: str, options=()) -> Venv:
        command = [sys.executable, "-m", "pip", "--python", self.prefix / "bin" / "python"]
        done = subprocess.run(
            [*command, "install", "-q", "--no-deps", *options, *requirements],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return self

    def link(self) -> Venv:
        """Lets it see what the Python of the tests has, behind its own."""
        (self.site / "linked.pth").write_text(sysconfig.get_path("purelib") + "\n")
        return self

    def pylaunch(self, *args, cwd: Path, timeout: float = 120, **env: str):
        full = clean_environment(self.lab.home, PYLAUNCH_CACHE_MODE="off", **env)
        command = [str(self.lab.pylaunch), "--python", str(self.prefix), *map(str, args)]
        return subprocess.run(
            command, cwd=cwd, env=full, capture_output=True, text=True, timeout=timeout
        )

    def doctor(self, *args, cwd: Path, **env: str) -> Report:
        return Report.of(self.pylaunch("--doctor", "--json", *args, cwd=cwd, **env))

    def preload(self, entry: str, *args, cwd: Path, **env: str) -> str:
        """What is said when a launch stops at `entry`."""
        got = self.pylaunch("--preload", entry, *(args or ("-c", "")), cwd=cwd, **env)
        assert got.returncode == 1, got
        assert "did not load" in got.stderr
        return got.stderr


@dataclass
class Report:
    code: int
    checks: list[dict]
    err: str

    @classmethod
    def of(cls, got) -> Report:
        assert got.stdout, got.stderr
        data = json.loads(got.stdout)
        assert got.returncode == (0 if data["healthy"] else 1)
        return cls(got.returncode, data["checks"], got.stderr)

    def of_status(self, status: str, family: str | None = None) -> list[dict]:
        return [c for c in self.checks if c["status"] == status and family in (None, c["family"])]

    def failure(self, family: str) -> dict:
        """The one failure of a family."""
        found = self.of_status("failure", family)
        assert len(found) == 1, self.checks
        assert found[0]["cause"] and found[0]["hint"]
        return found[0]

    def healthy(self) -> None:
        assert self.code == 0, self.of_status("failure")
        assert not self.of_status("warning"), self.of_status("warning")


def make_venv(lab, prefix: Path) -> Venv:
    lab.need_pylaunch()
    command = [lab.python, "-m", "venv", "--without-pip", prefix]
    subprocess.run(command, check=True, env=clean_environment(lab.home))
    return Venv(prefix, lab)


@pytest.fixture(scope="session")
def session_venv(lab, tmp_path_factory):
    """make(name, *requirements, linked=False): made once a session, never changed by tests."""
    made = {}

    def make(name: str, *requirements: str, linked: bool = False) -> Venv:
        if name not in made:
            venv = make_venv(lab, tmp_path_factory.mktemp("venvs") / name)
            if requirements:
                venv.install(*requirements)
            made[name] = venv.link() if linked else venv
        return made[name]

    return make


@pytest.fixture
def venv(lab, tmp_path) -> Venv:
    """An empty one of the test's own."""
    return make_venv(lab, tmp_path / "throwaway")


@pytest.fixture
def linked(session_venv) -> Venv:
    return session_venv("linked", linked=True)


@pytest.fixture
def empty(session_venv) -> Venv:
    return session_venv("empty")


@pytest.fixture
def work(tmp_path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def has(*modules: str):
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {missing}")


# ---------------------------------------------------------------------------------------------- healthy


def test_the_environment_of_the_tests_is_healthy(lab, work):
    venv = Venv(Path(sys.prefix), lab)
    venv.doctor(cwd=work).healthy()


def test_an_empty_environment_is_healthy(empty, work):
    empty.doctor(cwd=work).healthy()


def test_a_fresh_environment_with_pip_is_healthy(lab, tmp_path, work):
    lab.need_pylaunch()
    env = clean_environment(lab.home)
    subprocess.run([lab.python, "-m", "venv", tmp_path / "pip"], check=True, env=env)
    Venv(tmp_path / "pip", lab).doctor(cwd=work).healthy()


@pytest.mark.full
@has("numpy", "scipy", "dateutil")
def test_pandas_pyarrow_and_jax_are_healthy(session_venv, work):
    jax = ("jax", "jaxlib", "ml_dtypes", "opt_einsum")
    venv = session_venv("pandas", "pandas", "pyarrow", *jax, linked=True)
    entries = ("pandas", "pyarrow.compute", "jax.numpy")
    report = venv.doctor(*(word for x in entries for word in ("--preload", x)), cwd=work)
    report.healthy()
    assert len(report.of_status("ok", "entries")) == len(entries)


def test_a_project_in_front_that_hides_nothing_is_healthy(linked, work):
    (work / "torch").mkdir()  # No __init__.py: the installed package wins.
    (work / "torch" / "notes.txt").write_text("")
    for name in ("tests", "myapp"):
        (work / name).mkdir()
        (work / name / "__init__.py").write_text("")
    (work / "sys.py").write_text("raise SystemExit")  # Built in: CPython never looks for it.
    linked.doctor("-m", "myapp", cwd=work).healthy()


# ---------------------------------------------------------------------------------------------- the command


def test_the_report_for_people(empty, work):
    got = empty.pylaunch("--doctor", cwd=work)
    assert got.returncode == 0
    lines = got.stdout.splitlines()
    assert all(line.startswith("✓ ") for line in lines[1:-1])
    assert lines[-1] == f"{len(lines) - 2} checks, 0 failed, 0 warnings"
    assert got.stderr == ""


def test_a_failure_has_sign_cause_and_hint(empty, work):
    got = empty.pylaunch("--doctor", cwd=work, CUDA_HOME=str(work / "none"))
    assert got.returncode == 1
    lines = got.stdout.splitlines()
    at = lines.index("✗ CUDA_HOME names a folder that exists")
    assert lines[at + 1].startswith("  cause: CUDA_HOME is ")
    assert lines[at + 2].startswith("  hint:  unset CUDA_HOME")
    assert "\033" not in got.stdout


def test_the_twin_and_the_wrong_use(empty, work):
    assert json.loads(empty.pylaunch("--json", cwd=work, PYLAUNCH_DOCTOR="1").stdout)["healthy"]
    got = empty.pylaunch("--json", "-c", "print(1)", cwd=work)
    assert (got.returncode, got.stdout) == (2, "")
    assert "--doctor" in got.stderr


def test_python_options_hold_for_the_examination(empty, work):
    (work / "random.py").write_text("")
    assert empty.doctor("-c", "1", cwd=work).code == 1
    assert empty.doctor("-I", "-c", "1", cwd=work).code == 0
    assert empty.doctor("-Ic", "1", cwd=work).code == 0
    assert empty.doctor("-i", cwd=work).code == 1  # And does not wait for input.


@serial
def test_colour_and_bar_on_a_terminal_only_without_no_color(empty, work, lab):
    env = clean_environment(lab.home, PYLAUNCH_CACHE_MODE="off")
    env["TERM"] = "xterm"
    argv = [str(lab.pylaunch), "--python", str(empty.prefix), "--doctor"]
    code, plain = tty_session(argv, env, work, [])
    assert code == 0
    assert "✓" in plain and "\033[32m" not in plain
    del env["NO_COLOR"]
    code, shown = tty_session(argv, env, work, [])
    assert code == 0
    assert "\033[32m✓\033[0m" in shown
    assert "[#" in shown


def test_no_user_code_runs_but_imports_of_entries(empty, work):
    (work / "app.py").write_text("print('app')\ndef warm():\n    print('warm')\n")
    (work / "main.py").write_text("print('main')\n")
    report = empty.doctor("--preload", "call app:warm", work / "main.py", cwd=work)
    report.healthy()
    assert "app" in report.err  # What an import prints never meets the report.
    assert "warm" not in report.err and "main" not in report.err


def test_every_entry_is_tried_even_after_a_crash(empty, work):
    (work / "crash.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    (work / "leaves.py").write_text("import os\nos._exit(3)\n")
    (work / "quits.py").write_text("raise SystemExit(4)\n")
    (work / "fails.py").write_text("raise ValueError('no luck')\n")
    names = ("crash", "leaves", "quits", "fails", "optional absent", "optional fails", "json")
    report = empty.doctor(*(w for n in names for w in ("--preload", n)), cwd=work)
    found = [c for c in report.checks if c["family"] == "entries"]
    assert [c["status"] for c in found] == [*["failure"] * 4, "ok", "warning", "ok"]
    assert "SIGSEGV" in found[0]["cause"]
    assert "exit code 3" in found[1]["cause"]
    assert "SystemExit: 4" in found[2]["cause"]
    assert f"ValueError: no luck ({work / 'fails.py'}:1)" in found[3]["cause"]


def test_environment_of_an_entry_holds_for_it_alone(empty, work):
    (work / "one.py").write_text("import os\nassert os.environ['PL_X'] == '1'\n")
    (work / "two.py").write_text("import os\nassert 'PL_X' not in os.environ\n")
    empty.doctor("--preload", "PL_X=1 one", "--preload", "two", cwd=work).healthy()


def test_an_installed_pylaunch_brings_its_doctor(installed, work, lab):
    env = clean_environment(lab.home, PYLAUNCH_CACHE_MODE="off")
    (work / "random.py").write_text("X = 1\n")
    command = [installed / "bin" / "pylaunch"]
    got = subprocess.run(
        [*command, "--doctor", "-I"], cwd=work, env=env, capture_output=True, text=True
    )
    assert (got.returncode, got.stderr) == (0, "")
    got = subprocess.run(
        [*command, "--preload", "tempfile", "-c", ""],
        cwd=work,
        env=env,
        capture_output=True,
        text=True,
    )
    assert f"cause: {work / 'random.py'} is found first" in got.stderr
    written = [p for p in (installed / "libexec/pylaunch").rglob("*") if p.suffix == ".pyc"]
    assert not written


# ---------------------------------------------------------------------------------------------- 1: CUDA build, CPU torch


@has("torch")
def test_a_cuda_torchvision_beside_a_cpu_torch(session_venv, work):
    venv = session_venv("torchvision", "torchvision==0.28.0", linked=True)
    entry = "torchvision.ops:nms"
    report = venv.doctor("--preload", entry, cwd=work)
    for check in (report.failure("native code"), report.failure("entries")):
        for words in ("0.28.0 was built for CUDA 13", "torchvision/_C.so", "image.so"):
            assert words in check["cause"]
        assert "libtorch_cuda.so" in check["cause"] and "not found" in check["cause"]
        assert "is a CPU build" in check["cause"]
        assert "install a torchvision that matches torch 2" in check["hint"]
    assert "operator torchvision::nms does not exist" in report.failure("entries")["cause"]
    said = venv.preload(entry, cwd=work)
    assert "  cause: torchvision 0.28.0 was built for CUDA 13" in said
    assert "operator torchvision::nms does not exist" in said
    assert "  hint:  install a torchvision that matches torch" in said


# ---------------------------------------------------------------------------------------------- 2: requirements


@has("transformers")
def test_an_old_hub_under_transformers(session_venv, work):
    venv = session_venv("hub", "huggingface-hub==0.20.3", linked=True)
    entry = "from transformers import AutoConfig"
    report = venv.doctor("--preload", entry, cwd=work)
    broken = [c["cause"] for c in report.of_status("failure", "requirements")]
    wanted = "transformers 4.57.1 requires huggingface-hub<1.0,>=0.34.0, but huggingface-hub 0.20.3 is installed"
    assert any(wanted.replace("-hub 0", "_hub 0") in c.replace("-hub 0", "_hub 0") for c in broken)
    said = venv.preload(entry, cwd=work)
    for text in (report.failure("entries")["cause"], said):
        assert "cause: transformers 4.57.1 requires huggingface-hub" in f"cause: {text}"
        assert "0.20.3 is installed" in text
    assert "pip install 'huggingface-hub<1.0,>=0.34.0'" in said


def test_a_requirement_that_is_not_installed(venv, work):
    venv.install("jinja2==3.1.6", "packaging")
    check = venv.doctor(cwd=work).failure("requirements")
    assert "Jinja2 3.1.6 requires" in check["cause"].replace("jinja2", "Jinja2")
    assert check["cause"].endswith("which is not installed")
    assert "pip install" in check["hint"]


def test_without_packaging_it_says_that_requirements_were_not_read(venv, work):
    venv.install("jinja2==3.1.6")
    report = venv.doctor(cwd=work)
    assert report.code == 0
    assert "neither packaging nor pip" in report.of_status("warning", "requirements")[0]["cause"]


# ---------------------------------------------------------------------------------------------- 3: RECORD


def test_deleted_files(venv, work):
    venv.install("idna==3.10")
    (venv.site / "idna" / "core.py").unlink()
    report = venv.doctor("--preload", "idna", cwd=work)
    assert "idna/core.py" in report.failure("files")["cause"]
    assert "--force-reinstall --no-deps idna==3.10" in report.failure("files")["hint"]
    assert "missing under" in report.failure("entries")["cause"]
    said = venv.preload("idna", cwd=work)
    assert "cause: missing under" in said and "idna/core.py" in said
    assert "--force-reinstall" in said


@pytest.mark.parametrize("same_size", [False, True])
def test_altered_files(venv, work, same_size):
    venv.install("idna==3.10")
    path = venv.site / "idna" / "core.py"
    text = path.read_text()
    broken = "raise ValueError('altered')\n#"  # And what is left of a line.
    altered = broken + (text[len(broken) :] if same_size else text)
    # Sooner, it could be the installer itself.
    wait = (venv.site / "idna-3.10.dist-info" / "RECORD").stat().st_ctime + 2.1 - time.time()
    time.sleep(max(wait, 0))
    path.write_text(altered)
    os.utime(path, (1e9, 1e9))
    report = venv.doctor(cwd=work)
    assert "altered under" in report.failure("files")["cause"]
    assert "idna/core.py" in report.failure("files")["cause"]
    said = venv.preload("idna", cwd=work)
    assert "cause: altered under" in said and "ValueError: altered" in said


def test_path_is_the_program_s_alone(installed, lab, tmp_path):
    """Installed, the doctor is started by a path that is no real one: bin/../lib."""
    env = clean_environment(lab.home)
    show = "import os, sys; print([os.path.abspath(p) for p in sys.path])"
    stock = subprocess.run([installed / "bin/python", "-c", show], env=env, cwd=tmp_path, capture_output=True, text=True)  # fmt: skip
    command = [installed / "bin/pylaunch", "--doctor", "--json", "-c", show]
    said = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert str(json.loads(said.stdout)["path"]) == stock.stdout.strip(), said.stderr


def test_hints_at_a_launch_name_python_not_pylaunch(installed, lab, tmp_path):
    (site,) = (installed / "lib").glob("python3.*/site-packages")
    info = site / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "INSTALLER").write_text("pip\n")
    (info / "RECORD").write_text("mine.py,sha256=AAAA,1\nmine-1.0.dist-info/METADATA,,\n")
    (site / "mine.py").write_text("raise ValueError('altered')\n")
    os.utime(site / "mine.py", (1e9, 1e9))
    try:
        command = [installed / "bin/pylaunch", "--preload", "mine", "-c", "pass"]
        said = subprocess.run(command, env=clean_environment(lab.home), cwd=tmp_path, capture_output=True, text=True)  # fmt: skip
        assert f"hint:  {installed}/bin/python -m pip install" in said.stderr, said.stderr
    finally:
        shutil.rmtree(info)
        (site / "mine.py").unlink()


# ---------------------------------------------------------------------------------------------- 4: shadowing


def test_a_file_named_random_in_the_script_folder(empty, work, tmp_path):
    (work / "random.py").write_text("X = 1\n")
    (work / "main.py").write_text("import tempfile\n")
    report = empty.doctor("--preload", "tempfile", work / "main.py", cwd=tmp_path)
    check = report.failure("shadowing")
    assert check["what"] == "nothing stands in front of the standard library's 'random'"
    assert str(work / "random.py") in check["cause"]
    # sys.path begins with the script's folder, wherever it is started.
    assert check["hint"] == f"rename {work / 'random.py'}"
    inline = empty.doctor("-c", "import tempfile", cwd=work).failure("shadowing")
    assert inline["hint"] == f"rename {work / 'random.py'}, or start the program from elsewhere"
    assert str(work / "random.py") in report.failure("entries")["cause"]
    said = empty.preload("tempfile", work / "main.py", cwd=tmp_path)
    assert f"cause: {work / 'random.py'} is found first" in said
    assert "ImportError" in said or "AttributeError" in said


@has("transformers")
def test_a_folder_named_transformers(linked, work):
    (work / "transformers").mkdir()
    (work / "transformers" / "__init__.py").write_text("")
    entry = "from transformers import AutoConfig"
    report = linked.doctor("--preload", entry, cwd=work)
    assert "'transformers' of transformers 4" in report.failure("shadowing")["what"]
    assert str(work / "transformers") in report.failure("entries")["cause"]
    assert f"cause: {work / 'transformers'} is found first" in linked.preload(entry, cwd=work)


@has("torch")
def test_a_file_named_torch_on_pythonpath(linked, work, tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "torch.py").write_text("")
    report = linked.doctor(cwd=work, PYTHONPATH=str(tmp_path / "lib"))
    assert str(tmp_path / "lib" / "torch.py") in report.failure("shadowing")["cause"]
    said = linked.preload("from torch import nn", cwd=work, PYTHONPATH=str(tmp_path / "lib"))
    assert f"cause: {tmp_path / 'lib' / 'torch.py'} is found first" in said


def test_a_folder_taken_for_a_package_that_is_not_installed(empty, work):
    (work / "transformers").mkdir()
    said = empty.preload("from transformers import AutoConfig", cwd=work)
    assert f"{work / 'transformers'} is taken for the package 'transformers'" in said


@pytest.mark.parametrize("name", ["json.py", "re.py", "csv.py", "importlib/__init__.py", "ast.py"])
def test_the_doctor_itself_is_not_taken_in(empty, work, name):
    (work / name).parent.mkdir(exist_ok=True)
    (work / name).write_text("raise RuntimeError('taken in')\n")
    for env in ({}, {"PYTHONPATH": str(work)}):
        report = empty.doctor("--preload", "nothing_at_all", cwd=work, **env)
        assert "nothing_at_all" in report.failure("entries")["cause"]


# ---------------------------------------------------------------------------------------------- 5: environments


def run_base(lab, *args, cwd: Path, **env: str):
    """With the Python that has no virtual environment, found on PATH."""
    lab.need_pylaunch()
    path = f"{Path(lab.python).parent}:{os.environ['PATH']}"
    full = clean_environment(lab.home, PYLAUNCH_CACHE_MODE="off", PATH=path, **env)
    command = [str(lab.pylaunch), *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=full, capture_output=True, text=True)


@pytest.mark.parametrize("name", [".venv", "venv"])
def test_no_environment_is_active_while_the_project_has_one(lab, work, name):
    project = make_venv(lab, work / name)
    (project.site / "only_there.py").write_text("")
    (work / "main.py").write_text("import only_there\n")
    report = Report.of(run_base(lab, "--doctor", "--json", "main.py", cwd=work))
    check = report.failure("environment")
    assert "no virtual environment is active" in check["cause"]
    assert f"pylaunch --python {project.prefix}" in check["hint"]
    said = run_base(lab, "--preload", "only_there", "main.py", cwd=work)
    assert f"the environment {project.prefix} has it" in said.stderr
    project.doctor("main.py", cwd=work).healthy()


def test_virtual_env_that_is_gone_or_is_another(empty, session_venv, work):
    gone = empty.doctor(cwd=work, VIRTUAL_ENV=str(work / "gone"))
    assert "which does not exist" in gone.failure("environment")["cause"]
    other = session_venv("other")
    asked = empty.doctor(cwd=work, VIRTUAL_ENV=str(other.prefix))  # --python was given.
    assert asked.code == 0
    warning = asked.of_status("warning", "environment")[0]
    assert f"VIRTUAL_ENV is {other.prefix}" in warning["cause"]


def test_an_environment_of_another_version(venv, work):
    config = venv.prefix / "pyvenv.cfg"
    config.write_text(config.read_text().replace(f"version = {VERSION}", "version = 3.9"))
    assert "made for Python 3.9" in venv.doctor(cwd=work).failure("environment")["cause"]


# ---------------------------------------------------------------------------------------------- 6: other Pythons, glibc


def test_an_extension_of_another_python(venv, work):
    other = "3.10" if VERSION != "3.10" else "3.12"
    tag = f"cpython-{other.replace('.', '')}"
    options = ["--target", venv.site, "--python-version", other, "--only-binary=:all:"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        *options,
        "regex==2024.11.6",
    ]
    subprocess.run(command, check=True, capture_output=True)
    report = venv.doctor("--preload", "regex", cwd=work)
    assert tag in report.failure("native code")["cause"]
    assert "regex/_regex" in report.failure("native code")["cause"]
    assert tag in report.failure("entries")["cause"]
    assert tag in venv.preload("regex", cwd=work)


def gcc(*args) -> None:
    subprocess.run(["gcc", "-shared", "-fPIC", *map(str, args)], check=True)


INIT = "extern void *PyModule_Create2(void*, int);%s\nvoid *PyInit_newer(void) { %s return 0; }\n"


@needs_gcc
def test_an_extension_for_a_newer_glibc(empty, work, tmp_path):
    (tmp_path / "stub.c").write_text("void from_the_future(void) {}\n")
    (tmp_path / "stub.map").write_text("GLIBC_2.99 { global: from_the_future; };\n")
    stub = tmp_path / "libc.so.6"
    gcc(
        "-nostdlib",
        "-Wl,-soname,libc.so.6",
        f"-Wl,--version-script={tmp_path}/stub.map",
        "-o",
        stub,
        tmp_path / "stub.c",
    )
    (tmp_path / "newer.c").write_text(INIT % ("void from_the_future(void);", "from_the_future();"))
    gcc("-nostdlib", "-o", work / "newer.so", tmp_path / "newer.c", stub)
    said = empty.preload("newer", cwd=work)
    assert "needs GLIBC_2.99, newer than this system's glibc" in said
    assert "version `GLIBC_2.99' not found" in said


@needs_gcc
def test_an_extension_whose_library_is_missing_names_the_chain(empty, work, tmp_path):
    (tmp_path / "a.c").write_text("void deep(void) {}\n")
    (tmp_path / "b.c").write_text("void deep(void); void middle(void) { deep(); }\n")
    (tmp_path / "newer.c").write_text(INIT % ("void middle(void);", "middle();"))
    gcc("-o", tmp_path / "libdeep.so.7", "-Wl,-soname,libdeep.so.7", tmp_path / "a.c")
    gcc("-o", work / "libmiddle.so", tmp_path / "b.c", tmp_path / "libdeep.so.7")
    gcc(
        "-o",
        work / "newer.so",
        tmp_path / "newer.c",
        "-L",
        work,
        "-lmiddle",
        "-Wl,-rpath,$ORIGIN",
        "-Wl,--allow-shlib-undefined",
    )
    said = empty.preload("newer", cwd=work)
    assert f"cause: {work / 'libmiddle.so'} needs libdeep.so.7, which is not found" in said
    assert "LD_LIBRARY_PATH" in said


# ---------------------------------------------------------------------------------------------- 7: variables


def test_dead_entries_of_variables(empty, work):
    gone = str(work / "gone")
    path = f"{os.environ['PATH']}:{gone}"
    env = {"CUDA_HOME": gone, "LD_LIBRARY_PATH": gone, "PYTHONPATH": gone, "PATH": path}
    told = {}
    for name, value in env.items():
        report = empty.doctor(cwd=work, **{name: value})
        bad = [c for c in report.checks if c["family"] == "variables" and name in c["what"]]
        assert gone in bad[0]["cause"], name
        assert name in bad[0]["hint"]
        told[name] = bad[0]["status"]
    assert told == {
        "CUDA_HOME": "failure",
        "LD_LIBRARY_PATH": "warning",  # Containers set these two for what may be mounted.
        "PYTHONPATH": "failure",
        "PATH": "warning",
    }


def test_a_compiler_variable_that_names_nothing(empty, work):
    assert (
        "CXX is no-such-g++"
        in empty.doctor(cwd=work, CXX="no-such-g++ -O2").failure("variables")["cause"]
    )


# ---------------------------------------------------------------------------------------------- 8: compilers

JIT = """\
from torch.utils.cpp_extension import load_inline
load_inline("jit_of_pylaunch", cpp_sources="int f() { return 1; }", functions=["f"], build_directory=%r)
"""


@has("torch")
@pytest.mark.slow  # 4 s each.
@pytest.mark.parametrize("tools", [(), ("ninja",)])
def test_a_jit_extension_without_a_compiler(linked, work, tmp_path, tools):
    if tools and not shutil.which("ninja"):
        pytest.skip("needs ninja")
    (tmp_path / "bin").mkdir()
    (tmp_path / "build").mkdir()
    for tool in (*tools, "which", "sh", "env"):
        where = shutil.which(tool, path="/usr/bin:/bin") or shutil.which(tool)
        if where:
            (tmp_path / "bin" / tool).symlink_to(where)
    (work / "jit.py").write_text(JIT % str(tmp_path / "build"))
    env = {"PATH": str(tmp_path / "bin")}
    said = linked.preload("jit", cwd=work, **env)
    lacks = "C++ compiler" if tools else "ninja"
    assert "an extension is compiled while it is imported" in said
    assert f"no {lacks} is on PATH" in said
    assert "apt-get install g++" in said
    report = linked.doctor("--preload", "jit", cwd=work, **env)
    assert f"no {lacks} is on PATH" in report.failure("entries")["cause"]
    assert report.of_status("warning", "compilers")


# ---------------------------------------------------------------------------------------------- 9: backends


@has("transformers")
def test_a_transformers_class_without_its_backend(linked, work):
    if importlib.util.find_spec("tensorflow"):
        pytest.skip("tensorflow is installed")
    entry = "from transformers import TFBertModel"
    check = linked.doctor("--preload", entry, cwd=work).failure("entries")
    assert (
        "'TFBertModel' is only a placeholder: it needs tf, which is not installed" in check["cause"]
    )
    assert "pip install tensorflow" in check["hint"]
    said = linked.preload(entry, cwd=work)
    assert "placeholder: it needs tf" in said and "pip install tensorflow" in said
    assert "Python says" not in said


# ---------------------------------------------------------------------------------------------- 10: circular imports


def test_a_circular_import_is_told_as_its_chain(empty, work):
    (work / "app").mkdir()
    (work / "app" / "__init__.py").write_text("")
    (work / "app" / "a.py").write_text("X = 1\nfrom app.b import Y\nLATE = 1\n")
    (work / "app" / "b.py").write_text("\n\nfrom app.c import Z\nY = 1\n")
    (work / "app" / "c.py").write_text("\nfrom app.a import LATE\n")
    a, b, c = (work / "app" / f"{name}.py" for name in "abc")
    chain = (
        f"circular import: app.a ({a}:2) imports app.b ({b}:3) imports app.c ({c}:2) imports app.a"
    )
    assert chain in empty.preload("app.a", cwd=work)
    assert chain in empty.doctor("--preload", "app.a", cwd=work).failure("entries")["cause"]


def test_a_circular_import_that_ends_in_an_attribute(empty, work):
    (work / "one.py").write_text("import two\nX = 1\n")
    (work / "two.py").write_text("import one\nprint(one.X)\n")
    said = empty.preload("one", cwd=work)
    assert f"circular import: one ({work / 'one.py'}:1) imports two ({work / 'two.py'}:2)" in said


# ---------------------------------------------------------------------------------------------- 11: half-installed


@pytest.mark.slow  # 1.5 s each.
@pytest.mark.parametrize("file", ["RECORD", "METADATA"])
def test_an_installation_that_was_cut_off(venv, work, file):
    venv.install("idna==3.10")
    info = venv.site / "idna-3.10.dist-info"
    (info / file).unlink()
    check = venv.doctor(cwd=work).failure("installations")
    assert f"{info} has no {file}" in check["cause"]
    assert "--force-reinstall" in check["hint"]


def test_leftovers_of_pip(venv, work):
    venv.install("idna==3.10")
    (venv.site / "~dna").mkdir()
    report = venv.doctor(cwd=work)
    assert report.code == 0
    assert str(venv.site / "~dna") in report.of_status("warning", "installations")[0]["cause"]
    (venv.site / "~dna").rmdir()
    (venv.site / "idna").rename(venv.site / "~dna")  # What pip does first when it replaces.
    (venv.site / "idna-3.10.dist-info").rename(venv.site / "~dna-3.10.dist-info")
    report = venv.doctor(cwd=work)
    assert "was replacing when it was cut off" in report.failure("installations")["cause"]


def test_one_distribution_installed_twice(venv, work):
    venv.install("idna==3.10")
    shutil.copytree(venv.site / "idna-3.10.dist-info", venv.site / "idna-3.4.dist-info")
    text = (venv.site / "idna-3.4.dist-info" / "METADATA").read_text()
    (venv.site / "idna-3.4.dist-info" / "METADATA").write_text(text.replace("3.10", "3.4", 1))
    assert "idna is installed as" in venv.doctor(cwd=work).failure("installations")["cause"]


def test_a_file_that_is_no_shared_object(venv, work):
    venv.install("regex==2024.11.6")
    (library,) = (venv.site / "regex").glob("_regex.*.so")
    library.write_bytes(library.read_bytes()[:100])
    report = venv.doctor("--preload", "regex", cwd=work)
    assert any(str(library) in c["cause"] for c in report.of_status("failure", "native code"))
    assert "regex/_regex" in report.failure("entries")["cause"]


# ---------------------------------------------------------------------------------------------- the ELF walk


@pytest.fixture(scope="session")
def elf():
    spec = importlib.util.spec_from_file_location(
        "doctor_elf", LAUNCHER_FOLDER / "doctor" / "elf.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["doctor_elf"] = module
    spec.loader.exec_module(module)
    return module


# How top.so finds libmid.so, how libmid.so finds libend.so, and LD_LIBRARY_PATH; folders are named by letters.
SEARCHES = {
    "runpath of each": (
        ["--enable-new-dtags", "-rpath,$ORIGIN/m"],
        ["--enable-new-dtags", "-rpath,$ORIGIN/../e"],
        "",
    ),
    "runpath is not inherited": (["--enable-new-dtags", "-rpath,$ORIGIN/m:$ORIGIN/e"], [], ""),
    "rpath is inherited": (["--disable-new-dtags", "-rpath,$ORIGIN/m:$ORIGIN/e"], [], ""),
    "runpath stops inherited rpath": (
        ["--disable-new-dtags", "-rpath,$ORIGIN/m:$ORIGIN/e"],
        ["--enable-new-dtags", "-rpath,/nowhere"],
        "",
    ),
    "library path for all": ([], [], "m:e"),
    "library path for one": ([], [], "m"),
    "braces": (
        ["--enable-new-dtags", "-rpath,${ORIGIN}/m"],
        ["--disable-new-dtags", "-rpath,${ORIGIN}/../e"],
        "",
    ),
    "nothing": ([], [], ""),
}


@needs_gcc
@pytest.mark.parametrize("name", SEARCHES)
def test_the_walk_finds_what_the_dynamic_loader_finds(elf, tmp_path, name):
    top, middle, library_path = SEARCHES[name]
    for folder in ("m", "e"):
        (tmp_path / folder).mkdir()
    for source, text in {
        "end": "int end(void) { return 1; }",
        "mid": "int end(void); int mid(void) { return end(); }",
        "top": "int mid(void); int top(void) { return mid(); }",
    }.items():
        (tmp_path / f"{source}.c").write_text(text)
    end, mid, main = tmp_path / "e" / "libend.so", tmp_path / "m" / "libmid.so", tmp_path / "top.so"
    gcc("-o", end, tmp_path / "end.c")
    gcc("-o", mid, tmp_path / "mid.c", "-L", tmp_path / "e", "-lend", *(f"-Wl,{x}" for x in middle))
    gcc(
        "-o",
        main,
        tmp_path / "top.c",
        "-L",
        tmp_path / "m",
        "-lmid",
        "-Wl,--allow-shlib-undefined",
        *(f"-Wl,{x}" for x in top),
    )
    folders = ":".join(str(tmp_path / x) for x in library_path.split(":") if x)
    env = {**os.environ, **({"LD_LIBRARY_PATH": folders} if folders else {})}
    program = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
    real = subprocess.run(
        [sys.executable, "-c", program, main], env=env, capture_output=True, text=True
    )
    found = elf.Loader(sys.executable, {"LD_LIBRARY_PATH": folders}).problems(str(main))
    if real.returncode == 0:
        assert found == []
    else:
        assert found and f"{found[0].library}: cannot open shared object file" in real.stderr
        assert found[0].needed_by == str(main if found[0].library == "libmid.so" else mid)


def test_the_walk_agrees_with_the_loader_on_installed_extensions(elf):
    """Of the standard library: all can be loaded here, so nothing may be said to be missing."""
    folder = Path(sysconfig.get_path("stdlib")) / "lib-dynload"
    loader = elf.Loader(sys.executable, {})
    for path in folder.glob("*.so"):
        assert loader.problems(str(path)) == [] or "_tkinter" in path.name


@pytest.mark.parametrize("size", [0, 3, 20, 64, 200, 1000, 5000])
def test_truncated_and_scrambled_files_are_told_as_such(elf, tmp_path, size):
    data = bytearray(Path(sys.executable).resolve().read_bytes()[:size])
    path = tmp_path / "cut.so"
    path.write_bytes(data)
    with pytest.raises(elf.NotElf):
        elf.read(str(path))
    source = next((Path(sysconfig.get_path("stdlib")) / "lib-dynload").glob("*.so")).read_bytes()
    dice = random.Random(size)
    for i in range(50):
        scrambled = bytearray(source)
        for _ in range(20):
            scrambled[dice.randrange(16, 2000)] = dice.randrange(256)
        other = tmp_path / f"scrambled{i}.so"
        other.write_bytes(scrambled)
        with contextlib.suppress(elf.NotElf):
            elf.read(str(other))


# ---------------------------------------------------------------------------------------------- 9: of two builds


def put(venv: Venv, name: str, version: str, files: dict[str, str | Path], *requires: str) -> None:
    """Installs a distribution as pip would, over what is there; a path is a file to be copied."""
    rows = []
    for path, content in files.items():
        data = content.read_bytes() if isinstance(content, Path) else content.encode()
        (venv.site / path).parent.mkdir(parents=True, exist_ok=True)
        (venv.site / path).write_bytes(data)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(data)}")
    info = venv.site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (info / "METADATA").write_text(
        "\n".join([*lines, *(f"Requires-Dist: {x}" for x in requires), ""])
    )
    (info / "INSTALLER").write_text("pip\n")
    (info / "RECORD").write_text(
        "\n".join([*rows, f"{info.name}/METADATA,,", f"{info.name}/RECORD,,", ""])
    )


def test_two_distributions_that_own_one_file(venv, work):
    """As opencv-python and opencv-python-headless: one line names both, and which to remove."""
    put(
        venv,
        "sight",
        "4.10",
        {
            "sight/__init__.py": "from .core import x\n",
            "sight/core.py": "x = 1\n",
            "sight/LICENSE.txt": "a",
        },
    )
    put(
        venv,
        "sight-headless",
        "4.9",
        {
            "sight/__init__.py": "import sight.none\n",
            "sight/core.py": "y = 2\n",
            "sight/LICENSE.txt": "bc",
        },
    )
    put(venv, "packaging", "1", {})
    report = venv.doctor("--preload", "sight", cwd=work)
    check = report.failure("files")
    assert check["what"] == "sight 4.10 and sight-headless 4.9 have files of their own"
    assert "both own sight/__init__.py, sight/core.py and 1 more" in check["cause"]
    assert "those of sight-headless 4.9 are there" in check["cause"]
    assert "uninstall -y sight," in check["hint"]
    assert "--force-reinstall --no-deps sight-headless==4.9" in check["hint"]
    assert report.failure("entries")["cause"].startswith(check["cause"])
    assert not report.of_status("warning", "files")


def test_the_one_of_two_owners_that_others_require_is_kept(venv, work):
    put(venv, "sight", "4.10", {"sight/__init__.py": "x = 1\n"})
    put(venv, "sight-headless", "4.9", {"sight/__init__.py": "x = 22\n"})
    put(venv, "user", "1", {"user.py": ""}, "sight>=4")
    check = venv.doctor(cwd=work).failure("files")
    assert "uninstall -y sight-headless," in check["hint"] and "sight==4.10" in check["hint"]


def test_owners_of_the_same_content_are_healthy(venv, work):
    """Namespaces, documents and tests of careless distributions."""
    same = {"space/__init__.py": "", "README.md": "of all"}
    put(venv, "one", "1", {**same, "tests/test_it.py": "1", "space/one.py": ""})
    put(venv, "other", "1", {**same, "tests/test_it.py": "22", "space/other.py": ""})
    assert not venv.doctor(cwd=work).of_status("failure", "files")


old_wheels = pytest.mark.skipif(
    not "3.10" <= VERSION <= "3.11", reason="wheels of their time are for no newer Python"
)


@old_wheels
@has("torch")
def test_an_extension_built_for_another_torch(session_venv, work):
    venv = session_venv("torchtext", "torchtext==0.18.0", linked=True)
    report = venv.doctor("--preload", "torchtext", cwd=work)
    for cause in (report.failure("native code")["cause"], report.failure("entries")["cause"]):
        assert cause.startswith("torchtext 0.18.0 was built for another torch than 2.")
        assert re.search(
            r"torchtext/\S+\.so needs _ZN\w+ and \d+ more, which nothing there defines", cause
        )
    assert "a torchtext that was built for torch 2" in report.failure("native code")["hint"]
    assert "undefined symbol" in venv.preload("torchtext", cwd=work)


def test_a_build_tag_that_names_another_version(venv, work):
    put(venv, "torch", "2.8.0", {"torch/__init__.py": ""})
    put(
        venv,
        "flash_attn",
        "2.6.3+cu123torch2.4cxx11abiFALSE",
        {"flash_attn/__init__.py": ""},
        "torch",
    )
    check = venv.doctor(cwd=work).failure("native code")
    assert "another torch than 2.8.0: its build tag says torch 2.4" in check["cause"]
    assert "built for torch 2.8.0" in check["hint"]


@old_wheels
@has("numpy")
def test_an_extension_built_for_numpy_1(session_venv, work):
    venv = session_venv("numexpr", "numexpr==2.8.4", linked=True)
    report = venv.doctor("--preload", "numexpr", cwd=work)
    for check in (report.failure("native code"), report.failure("entries")):
        assert re.match(
            r"numexpr/interpreter\S+ was built with NumPy 1's headers, and numpy 2\S+ is",
            check["cause"],
        )
        assert "pip install --upgrade numexpr" in check["hint"]


def test_two_openmp_runtimes(venv, work, tmp_path):
    put(venv, "intel-openmp", "2024.2", {"../../libiomp5.so": "1"})
    put(venv, "translate", "4.4", {"translate.libs/libiomp5-0ab1c2.so": "2"})
    put(venv, "gnu", "1", {"gnu.libs/libgomp-a34b3233.so.1.0.0": "3"})
    (check,) = venv.doctor(cwd=work).of_status("warning", "native code")
    assert "intel-openmp 2024.2 (" in check["cause"] and "translate 4.4 (" in check["cause"]
    assert "OMP: Error #15" in check["cause"] and "gnu" not in check["cause"]


# ---------------------------------------------------------------------------------------------- 10: what the system lacks


@needs_gcc
def test_a_library_that_slim_containers_lack_names_its_package(empty, work, tmp_path):
    (tmp_path / "lib.c").write_text("void deep(void) {}\n")
    (tmp_path / "newer.c").write_text(INIT % ("void deep(void);", "deep();"))
    names = {
        "libzbar.so.0": "libzbar0",
        "libmpi.so.40": "libopenmpi3",
        "libportaudio.so.2": "libportaudio2",
    }
    library = next(x for x in names if not ctypes.util.find_library(x[3:].partition(".")[0]))
    gcc("-o", tmp_path / library, f"-Wl,-soname,{library}", tmp_path / "lib.c")
    gcc("-o", work / "newer.so", tmp_path / "newer.c", tmp_path / library)
    said = empty.preload("newer", cwd=work)
    assert f"needs {library}, which is not found" in said
    assert f"(Debian: apt-get install {names[library]})" in said


@needs_gcc
def test_an_extension_for_a_newer_libstdcxx(empty, work, tmp_path):
    (tmp_path / "stub.c").write_text("void from_the_future(void) {}\n")
    (tmp_path / "stub.map").write_text("GLIBCXX_3.4.99 { global: from_the_future; };\n")
    stub = tmp_path / "libstdc++.so.6"
    script = f"-Wl,--version-script={tmp_path}/stub.map"
    gcc("-nostdlib", "-Wl,-soname,libstdc++.so.6", script, "-o", stub, tmp_path / "stub.c")
    (tmp_path / "newer.c").write_text(INIT % ("void from_the_future(void);", "from_the_future();"))
    gcc("-o", work / "newer.so", tmp_path / "newer.c", stub)
    said = empty.preload("newer", cwd=work)
    assert re.search(r"needs GLIBCXX_3.4.99, which \S+libstdc\+\+.so.6 lacks", said)
    assert "use a libstdc++.so.6" in said


@pytest.mark.skipif(sys.base_prefix == "/usr", reason="needs a Python with a folder of its own")
def test_an_interpreter_built_without_lzma(lab, work, tmp_path):
    """As CPython's build leaves it where the headers were not there: without the module's file."""
    lab.need_pylaunch()
    base, copy = Path(sys.base_prefix), tmp_path / "python"
    stdlib = f"lib/python{VERSION}"
    left_out = shutil.ignore_patterns("_lzma.*", "test", "site-packages", "config-*", "__pycache__")
    shutil.copytree(base / stdlib, copy / stdlib, ignore=left_out)
    (copy / "bin").mkdir()
    python = shutil.copy(os.path.realpath(base / f"bin/python{VERSION}"), copy / "bin/python3")
    whole = Venv(Path(python), lab)
    report = whole.doctor("--preload", "lzma", cwd=work)
    (check,) = report.of_status("warning", "interpreter")
    assert check["cause"].endswith("was built without _lzma (lzma)")
    assert check["details"] == {"missing": ["_lzma"]}
    for hint in (check["hint"], report.failure("entries")["hint"]):
        assert "no pip command helps" in hint and "apt-get install liblzma-dev)" in hint
    assert "was built without _lzma" in report.failure("entries")["cause"]
