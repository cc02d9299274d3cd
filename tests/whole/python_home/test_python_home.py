# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""Which Python runs: flag, variable, the environment around the binary, the active one, PATH; and Pythons we cannot enter."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, clean_environment, finish, start

PROBE = (ROOT / "tests/whole/probe.py").read_text()
PREFIX = "import json, sys; print(json.dumps([sys.prefix, sys.base_prefix, sys.executable, sys.orig_argv[1:]]))"


@pytest.fixture(scope="module")
def venvs(lab, tmp_path_factory) -> tuple[Path, Path]:
    """Two empty environments of the interpreter under test."""
    lab.need_pylaunch()
    folder = tmp_path_factory.mktemp("venvs")
    made = []
    for name in ("first", "second"):
        subprocess.run(
            [lab.python, "-m", "venv", "--without-pip", folder / name],
            env=clean_environment(lab.home),
            check=True,
        )
        made.append(folder / name)
    return tuple(made)


@pytest.fixture
def go(lab, tmp_path):
    """Runs the binary itself, with nothing said about Python but what the test says."""
    lab.need_pylaunch()

    def run(*args, binary=None, env=None, bare=False, cwd=None, replace=()):
        full = {} if bare else clean_environment(lab.home)
        full.setdefault("PYLAUNCH_CACHE", str(tmp_path / "cache"))
        full.update(env or {})
        full = {k: v for k, v in full.items() if v is not None}
        process = start([binary or lab.pylaunch, *args], full, cwd or tmp_path)
        code, out, err = finish(process)
        return code, out.decode(), err.decode()

    return run


def prefix_of(result) -> str:
    code, out, err = result
    assert (code, err) == (0, ""), err
    return json.loads(out)[0]


def path_with(*folders) -> str:
    return ":".join([*map(str, folders), "/usr/bin", "/bin"])


# ---------------------------------------------------------------------------------------------- the search


def test_flag_names_an_executable_a_folder_or_a_name(go, venvs):
    first, second = map(str, venvs)
    assert prefix_of(go("--python", f"{first}/bin/python", "-c", PREFIX)) == first
    assert prefix_of(go(f"--python={first}/bin/python3", "-c", PREFIX)) == first
    assert prefix_of(go("--python", first, "-c", PREFIX)) == first
    env = {"PATH": path_with(f"{second}/bin")}
    assert prefix_of(go("--python", "python3", "-c", PREFIX, env=env)) == second
    assert prefix_of(go("--python", "first", "-c", PREFIX, cwd=venvs[0].parent)) == first
    assert prefix_of(go("--python", "first/bin/python", "-c", PREFIX, cwd=venvs[0].parent)) == first


def test_order_of_the_search(go, venvs, lab):
    first, second = map(str, venvs)
    path = {"PATH": path_with(lab.python.parent)}
    base = json.loads(subprocess.check_output([lab.python, "-c", PREFIX]))[0]
    assert prefix_of(go("-c", PREFIX, env=path)) == base
    assert prefix_of(go("-c", PREFIX, env={**path, "CONDA_PREFIX": first})) == first
    active = {**path, "CONDA_PREFIX": first, "VIRTUAL_ENV": second}
    assert prefix_of(go("-c", PREFIX, env=active)) == second
    assert (
        prefix_of(go("-c", PREFIX, env={**active, "PYLAUNCH_PYTHON": f"{first}/bin/python"}))
        == first
    )
    both = {**active, "PYLAUNCH_PYTHON": f"{first}/bin/python"}
    assert prefix_of(go("--python", second, "-c", PREFIX, env=both)) == second


def test_isolated_mode_ignores_our_variable_only(go, venvs, lab):
    first, second = map(str, venvs)
    env = {"PATH": path_with(lab.python.parent), "VIRTUAL_ENV": second, "PYLAUNCH_PYTHON": first}
    assert prefix_of(go("-I", "-c", PREFIX, env=env)) == second
    assert prefix_of(go("-E", "-c", PREFIX, env=env)) == second


@pytest.mark.parametrize(
    "what", ["/nonexistent/python", "no-such-python", "/etc/passwd", "/usr/lib", "/bin/true", ""]
)
def test_what_is_no_python_is_refused(go, what):
    code, out, err = go("--python", what, "-c", "print('ran')")
    if what == "":
        assert code in (0, 2)
        return
    assert (code, out) == (2, ""), err
    assert err.startswith("pylaunch: error: ")
    assert what in err and "hint:" in err


def test_no_python_anywhere(go, tmp_path):
    code, out, err = go("-c", "print('ran')", env={"PATH": str(tmp_path)})
    assert (code, out) == (2, ""), err
    assert err.startswith("pylaunch: error: ")


def test_stale_virtual_env_variable(go, venvs, lab):
    """VIRTUAL_ENV that names a deleted folder must not stop anybody."""
    env = {"VIRTUAL_ENV": "/nonexistent/env", "PATH": path_with(venvs[1] / "bin")}
    code, out, _ = go("-c", PREFIX, env=env)
    assert code == 0 and json.loads(out)[0] == str(venvs[1])


def test_first_python_on_the_path_wins(go, venvs, lab):
    first, second = venvs
    assert prefix_of(
        go("-c", PREFIX, env={"PATH": path_with(first / "bin", second / "bin")})
    ) == str(first)
    assert prefix_of(go("-c", PREFIX, env={"PATH": path_with("/nonexistent", second / "bin", first / "bin")})) == str(second)  # fmt: skip


def test_pylaunch_under_the_name_of_python_does_not_find_itself(go, venvs, lab, tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python3").symlink_to(lab.pylaunch)
    (folder / "python").symlink_to(lab.pylaunch)
    env = {"PATH": path_with(folder, venvs[0] / "bin")}
    assert prefix_of(go("-c", PREFIX, env=env)) == str(venvs[0])
    assert prefix_of(go("-c", PREFIX, env=env, binary=folder / "python3")) == str(venvs[0])


# ---------------------------------------------------------------------------------------------- installed into an environment


def test_installed_binary_runs_its_environment(go, installed, venvs):
    binary = installed / "bin/pylaunch"
    hostile = {"VIRTUAL_ENV": str(venvs[0]), "PATH": path_with(venvs[1] / "bin")}
    for env in ({}, hostile):
        code, out, err = go("-c", PREFIX, binary=binary, env=env)
        assert (code, err) == (0, "")
        prefix, base, executable, orig = json.loads(out)
        assert prefix == str(installed) and base != prefix
        assert executable == str(binary)
        assert orig == ["-c", PREFIX]


def test_executable_started_with_an_empty_environment_is_the_same_python(go, installed):
    program = (
        "import subprocess, sys; print(sys.prefix, sys.executable)\n"
        "print(subprocess.check_output([sys.executable, '-c', 'import sys; print(sys.prefix, sys.executable)'], env={}).decode())"
    )
    code, out, err = go("-c", program, binary=installed / "bin/pylaunch")
    assert (code, err) == (0, "")
    first, second = out.split("\n")[:2]
    assert first == second


def test_executable_of_an_uninstalled_binary_is_stocks(go, venvs):
    code, out, _ = go("--python", venvs[0] / "bin/python", "-c", PREFIX)
    assert code == 0 and json.loads(out)[2] == str(venvs[0] / "bin/python")


def test_link_to_an_installed_binary(go, installed, tmp_path):
    link = tmp_path / "somewhere" / "pl"
    link.parent.mkdir()
    link.symlink_to(installed / "bin/pylaunch")
    assert prefix_of(go("-c", PREFIX, binary=link, env={"PATH": "/usr/bin:/bin"})) == str(installed)


def test_installed_files_are_few_and_complete(installed):
    """Nothing but our own: a binary, engines and a sealer."""
    ours = {
        str(p.relative_to(installed))
        for p in installed.rglob("*")
        if p.is_file() and "pylaunch" in str(p.relative_to(installed))
    }
    assert "bin/pylaunch" in ours
    assert any(re.search(r"engine-cpython-[\d.]+\.so$", x) for x in ours)
    assert any(x.endswith("pylaunch-sealer") for x in ours)


def test_environment_in_a_folder_with_blanks_and_colons(go, lab, tmp_path):
    """The dynamic loader splits LD_PRELOAD at both."""
    for name in ("with blank", "with:colon", "grün"):
        prefix = tmp_path / name / "env"
        made = subprocess.run(
            [lab.python, "-m", "venv", "--without-pip", prefix],
            env=clean_environment(lab.home),
            capture_output=True,
        )
        if made.returncode != 0:  # Newer versions refuse colons.
            continue
        builds = [lab.pylaunch.parent, ROOT / "build"]
        build = next((x for x in builds if (x / "cmake_install.cmake").exists()), None)
        if build is None:
            pytest.skip("no build folder to install from")
        subprocess.run(
            ["cmake", "--install", build, "--prefix", prefix], check=True, stdout=subprocess.DEVNULL
        )
        code, out, err = go("-c", PREFIX + "; import os; print(os.environ.get('LD_PRELOAD'))", binary=prefix / "bin/pylaunch")  # fmt: skip
        assert (code, err) == (0, ""), (name, err)
        assert json.loads(out.splitlines()[0])[0] == str(prefix)
        assert out.splitlines()[1] == "None"


def test_program_in_an_environment_sees_what_stock_shows(go, installed):
    """All 70 facts of the probe, but for sys.executable and what names it."""
    env = clean_environment(Path("/nonexistent"))
    stock = json.loads(
        subprocess.check_output([installed / "bin/python", "-c", PROBE, "x"], env=env)
    )
    code, out, err = go(
        "-c", PROBE, "x", binary=installed / "bin/pylaunch", env={**env, "PYLAUNCH_CACHE": None}
    )
    assert (code, err) == (0, "")
    ours = json.loads(out)
    wrong = {k: (stock.get(k), ours.get(k)) for k in {*stock, *ours} if stock.get(k) != ours.get(k)}
    # Pipes and descriptors hang on how the two were started here, not on who ran.
    for key in (
        "executable",
        "config.executable",
        "config.orig_argv",
        "config.program_name",
        "preconfig",
        "fds",
        "fd_flags",
        "stdout",
        "stderr",
        "stdin",
        "cwd",
        "path",
    ):
        wrong.pop(key, None)
    assert wrong == {}
    assert ours["executable"] == str(installed / "bin/pylaunch")
    assert ours["base_executable"] == stock["base_executable"]


def test_venv_made_from_an_installed_pylaunch_belongs_to_stock(go, installed, tmp_path, lab):
    made = tmp_path / "made"
    code, out, err = go("-m", "venv", "--without-pip", made, binary=installed / "bin/pylaunch")
    assert (code, out, err) == (0, "", "")
    assert os.path.realpath(made / "bin/python") == os.path.realpath(lab.python)
    assert not [p for p in made.rglob("*") if "pylaunch" in p.name]
    config = dict(
        x.split(" = ", 1) for x in (made / "pyvenv.cfg").read_text().splitlines() if " = " in x
    )
    # What Python reads names stock; `executable` and `command` only note sys.executable.
    # 3.10 takes the environment that it runs in for the home of the new one.
    home = lab.python.parent if lab.version > (3, 10) else installed / "bin"
    assert config["home"] == str(home)
    assert "pylaunch" not in os.path.realpath(made / "bin/python3").rpartition("/")[2]


def test_pip_through_an_installed_pylaunch(go, installed):
    code, out, err = go("-m", "pip", "--version", binary=installed / "bin/pylaunch")
    assert (code, err) == (0, "") and str(installed) in out


# ---------------------------------------------------------------------------------------------- shims


def shim(folder: Path, target: Path, count: Path, name: str = "python3") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f'#!/bin/sh\necho asked >> {count}\nexec {target} "$@"\n')
    path.chmod(0o755)
    return path


def test_shim_script_is_asked_once(go, venvs, tmp_path):
    """A pyenv shim costs 40 ms and more; what it answered is remembered."""
    count = tmp_path / "count"
    script = shim(tmp_path / "shims", venvs[0] / "bin/python", count)
    env = {"PATH": path_with(script.parent)}
    for _ in range(3):
        assert prefix_of(go("-c", PREFIX, env=env)) == str(venvs[0])
        assert prefix_of(go("--python", script, "-c", PREFIX)) == str(venvs[0])
    assert count.read_text().count("asked") <= 2


def test_who_knows_no_isolated_mode_is_asked_without(go, venvs, tmp_path):
    """Python 2.7, and wrappers that look at options."""
    script = shim(tmp_path / "shims", venvs[0] / "bin/python", tmp_path / "count")
    refuses = 'case "$1" in -I*) echo "Unknown option: -I" >&2; exit 2;; esac\n'
    script.write_text(script.read_text().replace("exec", refuses + "exec"))
    assert prefix_of(go("--python", script, "-c", PREFIX)) == str(venvs[0])


def test_changed_shim_is_asked_again(go, venvs, tmp_path):
    count = tmp_path / "count"
    script = shim(tmp_path / "shims", venvs[0] / "bin/python", count)
    env = {"PATH": path_with(script.parent)}
    assert prefix_of(go("-c", PREFIX, env=env)) == str(venvs[0])
    shim(tmp_path / "shims", venvs[1] / "bin/python", count)
    assert prefix_of(go("-c", PREFIX, env=env)) == str(venvs[1])


def test_shim_that_follows_the_working_folder(go, venvs, tmp_path):
    """As pyenv's do, by .python-version and PYENV_VERSION."""
    folder = tmp_path / "shims"
    folder.mkdir()
    script = folder / "python3"
    script.write_text(
        "#!/bin/sh\n"
        "v=$PYENV_VERSION; d=$PWD\n"
        'while [ -z "$v" ] && [ -n "$d" ]; do [ -f "$d/.python-version" ] && v=$(cat "$d/.python-version"); d=${d%/*}; done\n'
        f'exec {venvs[0].parent}/"${{v:-first}}"/bin/python "$@"\n'
    )
    script.chmod(0o755)
    env = {"PATH": path_with(folder)}
    work = tmp_path / "work" / "deep"
    work.mkdir(parents=True)
    first, second = map(str, venvs)
    for _ in range(2):
        assert prefix_of(go("-c", PREFIX, env=env, cwd=work)) == first
    (work.parent / ".python-version").write_text("second\n")
    for _ in range(2):
        assert prefix_of(go("-c", PREFIX, env=env, cwd=work)) == second
    assert prefix_of(go("-c", PREFIX, env={**env, "PYENV_VERSION": "first"}, cwd=work)) == first
    assert prefix_of(go("-c", PREFIX, env=env, cwd=tmp_path)) == first
    (work.parent / ".python-version").unlink()
    assert prefix_of(go("-c", PREFIX, env=env, cwd=work)) == first


@pytest.mark.parametrize(
    "body",
    ["exit 3", "kill -9 $$", "echo nonsense", "echo '{}'", "printf '\\377\\376'"],
    ids=range(5),
)
def test_broken_shim_is_refused(go, tmp_path, body):
    script = tmp_path / "python3"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    code, out, err = go("--python", script, "-c", "print('ran')")
    assert (code, out) == (2, "")
    assert err.startswith("pylaunch: error: ") and str(script) in err


def test_records_that_others_could_have_written_are_not_believed(go, venvs, tmp_path):
    count = tmp_path / "count"
    script = shim(tmp_path / "shims", venvs[0] / "bin/python", count)
    env = {"PATH": path_with(script.parent)}
    assert prefix_of(go("-c", PREFIX, env=env)) == str(venvs[0])
    records = list((tmp_path / "cache").rglob("*.json"))
    assert records and all(p.stat().st_mode & 0o077 == 0 for p in records)
    for record in records:
        record.write_text(record.read_text().replace(str(venvs[0]), str(venvs[1])))
        record.chmod(0o666)
    assert prefix_of(go("-c", PREFIX, env=env)) == str(venvs[0])
    for garbage in (b"", b"{", b"null", b"[1]", b"\xff" * 100, b'{"version": 1}'):
        for record in records:
            record.write_bytes(garbage)
            record.chmod(0o600)
        assert prefix_of(go("-c", PREFIX, env=env)) == str(venvs[0])


# ---------------------------------------------------------------------------------------------- other Pythons


def others() -> list[Path]:
    found = [Path("/usr/bin/python3")]
    for root in (Path.home() / ".pyenv/versions", Path("/root/.pyenv/versions")):
        if os.access(root, os.X_OK):
            found += sorted(root.glob("*/bin/python"))
            break
    found += [Path(x) for x in (shutil.which("pypy3"),) if x]
    return [p for p in dict.fromkeys(found) if os.access(p, os.X_OK)]


VERSION = "import sys; print(sys.version); print(sys.argv, sys.path[1:], sys.prefix); sys.exit(5)"


@pytest.mark.parametrize("python", others(), ids=str)
def test_any_python_runs_the_program(go, python, lab):
    """With an engine for it, as if it were stock; without one, stock itself, after one line."""
    env = clean_environment(lab.home)
    stock = finish(start([python, "-c", VERSION, "x"], env, "/"))
    for _ in range(2):
        code, out, err = go("--python", python, "-c", VERSION, "x", cwd="/")
        assert (code, out) == (stock[0], stock[1].decode()), err
        told = err.splitlines()
        version = re.search(r"(\d+\.\d+)", out)[1]
        if (lab.pylaunch.parent / f"engine-cpython-{version}.so").exists():
            assert told == []
        else:
            assert len(told) == 1 and told[0].startswith("pylaunch: warning: "), err
            assert str(python) in err


@pytest.mark.parametrize("python", others(), ids=str)
def test_preload_for_a_python_that_cannot_be_entered(go, python, lab):
    """Somebody asked for modules in memory: silence would be the seed failure. One line says that there are none."""
    result = go(
        "--python",
        python,
        "--preload",
        "import wave",
        "-c",
        "import sys; print('wave' in sys.modules)",
    )
    code, out, err = result
    if "True" in out:
        assert (code, err) == (0, "")
    else:
        assert err.startswith("pylaunch: ")


def test_statically_linked_python_sees_the_same_process(go, lab):
    python = Path("/usr/bin/python3")
    if not python.exists():
        pytest.skip("no /usr/bin/python3")
    version = subprocess.check_output([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], text=True).strip()  # fmt: skip
    if not (lab.pylaunch.parent / f"engine-cpython-{version}.so").exists():
        pytest.skip(f"no engine for {version}")
    env = clean_environment(lab.home, PYTHONDONTWRITEBYTECODE="1")
    stock = json.loads(finish(start([python, "-c", PROBE, "x"], env, "/"))[1])
    for mode in ("off", "auto", "auto"):
        code, out, err = go(
            "--python", python, "--cache-mode", mode, "-c", PROBE, "x", cwd="/",
            env={"PYTHONDONTWRITEBYTECODE": "1", "PYLAUNCH_SEAL": "wait"},
        )  # fmt: skip
        assert (code, err) == (0, "")
        ours = json.loads(out)
        wrong = {
            k: (stock.get(k), ours.get(k)) for k in {*stock, *ours} if stock.get(k) != ours.get(k)
        }
        for key in (
            "environ",
            "environ_order",
            "raw_environ",
            "config.orig_argv",
        ):  # PYLAUNCH_SEAL and PYLAUNCH_CACHE.
            wrong.pop(key, None)
        assert wrong == {}


def test_statically_linked_python_stays_static(go, lab, tmp_path):
    """No libpython comes into a process whose stock has none: it would cost 1.3x on a plain loop."""
    python = Path("/usr/bin/python3")
    if not python.exists():
        pytest.skip("no /usr/bin/python3")
    program = "print([l for l in open('/proc/self/maps') if 'libpython' in l])"
    stock = subprocess.check_output([python, "-c", program], text=True)
    assert go("--python", python, "-c", program)[1] == stock


def test_virtual_environment_of_another_version(go, lab, tmp_path):
    """An environment whose pyvenv.cfg stands beside an old pylaunch may have a Python for which there is no engine."""
    strange = [
        p for p in others() if not re.search(r"3\.(10|11|12|13)", str(p)) and "pyenv" in str(p)
    ]
    strange = [p for p in strange if re.search(r"versions/3\.[6-9]\.", str(p))]
    if not strange:
        pytest.skip("no old Python at hand")
    env = tmp_path / "old"
    made = subprocess.run([strange[-1], "-m", "venv", "--without-pip", env], env=clean_environment(lab.home), capture_output=True)  # fmt: skip
    if made.returncode != 0:
        pytest.skip("this Python makes no environments")
    code, out, err = go(
        "-c", "import sys; print(sys.prefix, sys.argv)", "x", env={"VIRTUAL_ENV": str(env)}
    )
    assert (code, out) == (0, f"{env} ['-c', 'x']\n")
    assert err.count("\n") == 1


def test_pth_file_beside_the_link_that_was_started(go, lab, installed, tmp_path):
    """CPython's own tests make such a link to sys.executable (test_site)."""
    program = "import sys; print(sys.path, sys.flags.no_site, sys.prefix)"
    path = subprocess.check_output(
        [installed / "bin/python", "-c", "import sys; print(*sys.path, '.', '..', sep='\\n')"]
    )
    said = []
    for name in ("python", "pylaunch"):
        folder = tmp_path / "here"
        folder.mkdir()
        (folder / "started").symlink_to(installed / "bin" / name)
        (folder / "started._pth").write_bytes(b"fake-path-name\n" + path)
        for started, place in ((folder / "started", None), ("./started", folder)):
            said.append(go("-c", program, binary=started, cwd=place))
        said.append(go("-c", program, binary="started", env={"PATH": path_with(folder)}))
        shutil.rmtree(folder)
    assert said[:3] == said[3:]
    assert "fake-path-name" in said[0][1] or lab.version < (3, 11)
