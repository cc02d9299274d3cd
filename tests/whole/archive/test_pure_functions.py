# ruff: noqa: E501 - programs in strings read better on long lines.
"""Results of pure functions over files are kept while the files are what they were, and never when anything is different.

The function is transformers' own, cut out of the installed transformers word for word; so are the files that it reads.
PYLAUNCH_TEST_TRANSFORMERS names the folder of another transformers than the installed one: for who reads a new version.
"""

import ast
import importlib.util
import os
import shutil
import time
from pathlib import Path

import pytest
from conftest import Runner

NAMES = [
    "BACKENDS_T",
    "IMPORT_STRUCTURE_T",
    "_TORCHVISION_BACKEND_SUBCLASS",
    "BASE_FILE_REQUIREMENTS",
    "fetch__all__",
    "create_import_structure_from_path",
    "spread_import_structure",
    "define_import_structure",
]

# What of the tree was opened: nothing, when the result comes from the archive.
PROGRAM = """
import sys, os
from pathlib import Path
opened = []
sys.addaudithook(lambda event, args: event == "open" and "/models/" in str(args[0]) and opened.append(args[0]))
{before}
from transformers.utils import import_utils
{between}
def canonical(value):
    if isinstance(value, dict):
        return [(canonical(k), canonical(v)) for k, v in value.items()]
    return sorted(value) if isinstance(value, (set, frozenset)) else value
models = Path(sys.argv[1])
for argument in (models, str(models), str(models / "bert" / "configuration_bert.py")):
    structure = import_utils.define_import_structure(argument, prefix="models")
    print(canonical(structure), type(structure), {{type(v) for v in structure.values()}})
print(len(opened), file=sys.stderr)
"""


def cut_out(source: str, names: list[str]) -> str:
    """The top-level statements that bind `names`, with everything up to the next statement."""
    lines = source.splitlines(keepends=True)
    body = ast.parse(source).body
    first = [min([n.lineno, *(d.lineno for d in getattr(n, "decorator_list", []))]) for n in body]
    parts = []
    for node, begin, end in zip(body, first, [*first[1:], len(lines) + 1], strict=True):
        target = node.targets[0] if isinstance(node, ast.Assign) else node
        if getattr(target, "name", getattr(target, "id", None)) in names:
            parts.append("".join(lines[begin - 1 : end - 1]))
    assert len(parts) >= len(names) - 1, "4.57 lacks the first of the two tables alone"
    return (
        "import os, re\nfrom functools import lru_cache\nfrom typing import Optional\n\n"
        + "".join(parts)
    )


class Package:
    """A folder to put on the path: `transformers`, its models being the installed ones but for a copy of `bert`."""

    def __init__(self, root: Path):
        real = os.environ.get("PYLAUNCH_TEST_TRANSFORMERS")
        real = Path(real or importlib.util.find_spec("transformers").submodule_search_locations[0])
        self.root = root
        self.models = root / "transformers" / "models"
        self.source = root / "transformers" / "utils" / "import_utils.py"
        self.source.parent.mkdir(parents=True)
        (root / "transformers" / "__init__.py").touch()
        (self.source.parent / "__init__.py").touch()
        self.source.write_text(cut_out((real / "utils" / "import_utils.py").read_text(), NAMES))
        self.models.mkdir()
        for folder in (real / "models").iterdir():
            if folder.name == "bert":
                shutil.copytree(folder, self.models / "bert")
            elif folder.is_dir() and folder.name != "__pycache__":
                (self.models / folder.name).symlink_to(folder)
        self.bert = self.models / "bert" / "configuration_bert.py"


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Package:
    package = Package(tmp_path_factory.mktemp("pure") / "template")
    time.sleep(2.1)  # Younger than two seconds proves nothing.
    return package


class Case:
    def __init__(self, runner: Runner, package: Package):
        self.runner = runner
        self.package = package

    def program(self, before: str, between: str) -> tuple[str, str, str]:
        return "-c", PROGRAM.format(before=before, between=between), str(self.package.models)

    def env(self, extra: dict[str, str] | None) -> dict[str, str]:
        return {"PYTHONPATH": str(self.package.root), "PYLAUNCH_SEAL": "wait", **(extra or {})}

    def opened(self, before: str = "", between: str = "", env: dict | None = None, explain=()):
        """Runs the program; asserts that it printed what stock prints; returns how many files of the tree it opened."""
        program = self.program(before, between)
        stock = self.runner.stock(*program, env=self.env(env))
        ours = self.runner.again(*program, env=self.env(env), flags=explain)
        assert (ours.code, ours.out) == (stock.code, stock.out)
        assert stock.code == 0, stock.err
        self.told = ours.err
        return int(ours.without_pylaunch_lines().err.splitlines()[-1])


@pytest.fixture(scope="session")
def filled(lab, template, tmp_path_factory) -> tuple[Path, int]:
    """A cache that holds the results for the large tree, and how many files are opened with it: the small tree's."""
    lab.need_pylaunch()
    folder = tmp_path_factory.mktemp("filled")
    case = Case(Runner(lab, "warm", folder, folder / "cache"), template)
    assert case.opened() > 1000
    few = case.opened()
    assert few == len(list(template.bert.parent.glob("*.py"))) - 1
    return folder / "cache", few


@pytest.fixture
def case(ours, template, filled) -> Case:
    shutil.copytree(filled[0], ours.warm_cache)
    case = Case(ours, template)
    case.few = filled[1]
    return case


@pytest.fixture
def own(ours, tmp_path) -> Case:
    """The same with files of its own, to be changed."""
    case = Case(ours, Package(tmp_path / "own"))
    time.sleep(2.1)
    assert case.opened() > 1000
    case.few = case.opened()
    assert case.few < 20
    return case


def test_a_kept_result_is_the_functions_own(case):
    assert case.opened() == case.few


def test_what_the_program_does_to_a_result_is_not_kept(case):
    spoil = "r = import_utils.define_import_structure(Path(sys.argv[1])); r.clear()"
    case.opened(between=spoil)
    assert case.opened() == case.few


@pytest.mark.slow  # 2 s each.
@pytest.mark.parametrize(
    "before, between",
    [
        ("", "import_utils.fetch__all__ = lambda text: ['Mine']"),
        ("", "import_utils.fetch__all__.__code__ = (lambda text: ['Mine']).__code__"),
        ("", "import_utils.BASE_FILE_REQUIREMENTS[lambda *e: True] = ('mine',)"),
        (
            "",
            "listed = os.listdir; os.listdir = lambda p: [n for n in listed(p) if n != 'bart']",
        ),
        (
            "",
            "scan = os.scandir; os.scandir = lambda p: scan(str(p).replace('/bart/', '/bert/'))",
        ),
        ("import builtins, io; builtins.open = lambda *a, **k: io.open(*a, **k)", ""),
        (
            "",
            "isdir = os.path.isdir; os.path.isdir = lambda p: isdir(p) and not p.endswith('/bart')",
        ),
        ("calls = []; sys.setprofile(lambda *a: calls.append(1))", ""),
        ("sys.settrace(lambda *a: None)", ""),
    ],
    ids=[
        "helper",
        "helper-code",
        "table",
        "listdir",
        "scandir",
        "open",
        "isdir",
        "profile",
        "trace",
    ],
)
def test_the_function_runs_when_what_it_uses_is_not_its_own(case, before, between):
    assert case.opened(before, between) > 200
    assert case.opened() == case.few


def test_with_hashes_that_are_the_same_every_time_the_function_runs(case):
    fixed = {"PYTHONHASHSEED": "0"}
    between = "print(import_utils.define_import_structure(Path(sys.argv[1])))"
    assert case.opened(between=between, env=fixed) > 1000


def changed(path: Path, text: str) -> None:
    """Changes the file and puts its times back."""
    st = path.stat()
    path.write_text(text)
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


@pytest.mark.slow  # 4 s each.
@pytest.mark.parametrize(
    "change",
    [
        lambda bert: changed(bert, bert.read_text().replace('"BertConfig"', '"CertConfig"')),
        lambda bert: (bert.parent / "configuration_more.py").write_text('__all__ = ["More"]\n'),
        lambda bert: bert.unlink(),
        lambda bert: bert.rename(bert.with_name("configuration_moved.py")),
        lambda bert: (bert.parent.parent / "bart").unlink(),
        lambda bert: (bert.parent / "sub").mkdir(),
    ],
    ids=["same-size", "added", "deleted", "renamed", "folder-gone", "folder-added"],
)
def test_a_change_in_the_tree_is_noticed(own, change):
    bert = own.package.bert
    if not bert.exists():
        pytest.fail("the package is not complete")
    program = PROGRAM.replace("configuration_bert.py", "__init__.py")
    change(bert)
    stock = own.runner.stock(
        "-c", program.format(before="", between=""), own.package.models, env=own.env(None)
    )
    ours = own.runner.again(
        "-c", program.format(before="", between=""), own.package.models, env=own.env(None)
    )
    assert (ours.code, ours.out) == (stock.code, stock.out)
    assert int(ours.err.splitlines()[-1]) > 1000


def test_pyc_files_written_beside_the_sources_change_nothing(own):
    """... but the names in the folder, at first; a second run is served again."""
    cache = own.package.bert.parent / "__pycache__"
    cache.mkdir(exist_ok=True)
    time.sleep(2.1)
    own.opened()
    (cache / "x.pyc").write_bytes(b"x")
    assert own.opened() == own.few


def test_a_source_that_nobody_has_read_is_not_trusted(ours, tmp_path):
    case = Case(ours, Package(tmp_path / "own"))
    text = case.package.source.read_text()
    case.package.source.write_text(text.replace("# Only modules ending", "# Only modules that end"))
    time.sleep(2.1)
    assert case.opened(explain=["--explain"]) > 1000
    assert "is not a known one" in case.told
    assert case.opened() > 1000


def test_a_damaged_result_is_as_good_as_none(case):
    (archive,) = case.runner.warm_cache.glob("*.pla")
    whole = archive.read_bytes()
    step = len(whole) // 6
    for offset in range(200, len(whole) - 64, step):
        archive.write_bytes(whole[:offset] + bytes(64) + whole[offset + 64 :])
        case.opened()
