"""scripts/check-lists tells which installed versions the lists (docs/lists.md) do not know."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

LISTS = ROOT / "launcher/python/resume"


def check(*args, folder=None):
    env = {**os.environ, **({"PYTHONPATH": str(folder)} if folder else {})}
    argv = [sys.executable, ROOT / "scripts/check-lists", *args]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def bare(lab):
    """The interpreter without packages, so that only what a test installs is there."""
    return str(lab.python)


def known(name, distribution):
    text = (LISTS / name).read_text()
    return re.search(rf"\s{distribution}==([^,\s]+)", text)[1]


def install(folder, distribution, version, *files):
    (folder / f"{distribution}-{version}.dist-info").mkdir(parents=True)
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("")


def lines(result, word):
    return [line for line in result.stdout.splitlines() if word in line]


def test_a_version_that_the_lists_know(bare, tmp_path):
    version = known("quiet_libraries.txt", "torch")
    install(tmp_path, "torch", version, "torch/lib/libc10.so", "torch/__init__.py")
    result = check(bare, folder=tmp_path)
    wanted = f"✓ torch {version}: hooks/torch.py, quiet_libraries.txt"
    assert lines(result, " torch ") == [wanted], result.stderr


def test_a_version_that_has_to_be_read(bare, tmp_path):
    install(tmp_path, "torch", "9.9", "torch/lib/libc10.so", "torch/__init__.py")
    result = check(bare, folder=tmp_path)
    wanted = "✗ torch 9.9 has to be read for hooks/torch.py, quiet_libraries.txt"
    assert lines(result, " torch ") == [wanted], result.stderr
    assert result.returncode == 1


def test_two_versions_of_one_distribution_are_none(bare, tmp_path):
    install(tmp_path, "torch", known("quiet_libraries.txt", "torch"), "torch/__init__.py")
    install(tmp_path, "torch", "9.9")
    result = check(bare, folder=tmp_path)
    assert lines(result, " torch ") == ["✗ torch of two versions has to be read for hooks/torch.py"]
    assert result.returncode == 1


def test_a_version_without_what_a_list_is_about_does_not_matter(bare, tmp_path):
    install(tmp_path, "torch", "9.9", "setuptools/_distutils/util.py")
    install(tmp_path, "setuptools", "9.9")
    result = check(bare, folder=tmp_path)
    assert not lines(result, " torch ") and not lines(result, " setuptools 9.9")


def test_the_project_s_own_environment_is_known():
    """What examples/requirements.txt pins has been read."""
    result = check(sys.executable)
    unknown = [x for x in lines(result, "✗") if "build-id" not in x and "CPython" not in x]
    assert lines(result, "✓ numpy") and not unknown, result.stdout


def test_a_source_that_a_list_knows_by_its_digest(bare, tmp_path):
    install(tmp_path, "tqdm", "1", "tqdm/utils.py")
    (tmp_path / "tqdm/utils.py").write_text("@wraps\ndef envwrap(prefix):\n    return prefix\n")
    result = check(bare, folder=tmp_path)
    (line,) = lines(result, "tqdm.utils:envwrap")
    assert re.fullmatch(r"✗ \S+ of digest \w{16} has to be read for environ_prefixes.txt", line)
    (line,) = lines(check(sys.executable), "tqdm.utils:envwrap")
    assert line.startswith("✓ ") and line.endswith(": environ_prefixes.txt"), line


def test_help_and_what_is_no_python(tmp_path):
    helped = check("--help")
    assert helped.returncode == 0 and "docs/lists.md" in helped.stdout
    wrong = check(str(tmp_path / "none"))
    assert wrong.returncode == 2 and wrong.stderr.startswith("check-lists: error: ")


def test_a_line_that_says_no_version_is_refused(tmp_path):
    """The program would take such a line for none; here it is said."""
    source = (ROOT / "scripts/check-lists").read_text()
    names = {"__name__": "check_lists", "__file__": str(ROOT / "scripts/check-lists")}
    module = type(sys)("check_lists")
    sys.modules["check_lists"] = module
    try:
        vars(module).update(names)
        exec(compile(source, "check-lists", "exec"), vars(module))
        for line in ("a/b", "a/b torch=1", "a/b torch==", "a/b scikit_learn==1", "a/b ==1"):
            with pytest.raises(module.Wrong, match="list:1"):
                module.parse("list", line)
        assert module.parse("list", "otherwise nothing\n# a comment\na b==1,2  # why\n") == [
            module.Line("list", "a", {"b": ("1", "2")})
        ]
    finally:
        del sys.modules["check_lists"]
