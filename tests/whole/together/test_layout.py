"""The house and what is said of it: rooms, includes, names of files, commands in documents.

docs/architecture.md says which rooms there are and which may include which; that table is what is
obeyed here. A rule is a function from a tree to complaints, `path:line: what`. The first test
below holds for this tree; the others show each rule failing, on small trees of their own.
"""

import ast
import fnmatch
import io
import os
import re
import sys
import tokenize
from functools import cached_property
from pathlib import Path, PurePosixPath

import pytest
from conftest import ROOT

# Built, installed or fetched, as .gitignore has it: in the root, and anywhere.
GENERATED_FOLDERS = ("build*", ".venv*", "dist", "train-output", ".git")
GENERATED = ("__pycache__", ".*_cache", "*.pyc")
WIDTH = 100
README_LINES = 150
SOURCES = (".cc", ".h")
# Files whose comments are read, beside scripts, which have no suffix. `#` begins a comment in all
# of them but C++'s, Python's (which has docstrings as well) and linker scripts'.
COMMENTED = (*SOURCES, ".py", ".cmake", ".txt", ".toml", ".sh", ".map", ".yaml")

# ------------------------------------------------------------------------- what is somebody else's

# First folders of other projects' files, as their own repositories have them.
OTHER_TREES = {
    "CPython": "Include Lib Modules Objects Parser Programs Python Tools internal cpython",
    "glibc": "csu elf malloc nptl posix resolv stdio-common stdlib string sysdeps",
    "Linux": "Documentation arch drivers fs include kernel lib mm net security sys linux asm",
    "CRIU, leveldb, gcc, OpenSSL": "criu db providers libgcc absl CLI nlohmann",
    "what is installed or built": "bin build lib64 site-packages dist-packages",
}
# The names of files that users have, in examples; and of files that every Python project has.
EXAMPLES = """train.py study.py worker.py warm.py file.py configs.txt
requirements.txt conftest.py setup.py sitecustomize.py"""
# Suffixes that only other people's files have here.
OTHER_SUFFIXES = (".c", ".S", ".so", ".pyc", ".rst")
STDLIB = {f"{name.strip('_')}.py" for name in sys.stdlib_module_names} | {
    f"{name}.py" for name in sys.stdlib_module_names
}
# Single names and patterns, with the reason.
OTHERS = {
    "Python.h": "CPython's header",
    "py*.h": "CPython's headers",
    "*object.h": "CPython's headers",
    "_bootstrap*.py": "importlib's",
    "__init__.py": "every package's",
    "__main__.py": "every package's",
    "stdlib.h": "the C library's",
    "descr.h": "glibc's",
    "rseq-internal.h": "glibc's",
    "setup_worker.py": "Ray's",
}

# ------------------------------------------------------------------------------------------ a tree


class Tree:
    """The files of a checkout, by their paths in it."""

    def __init__(self, root: Path):
        self.root = root
        self.paths = []
        for folder, folders, files in os.walk(root):
            here = PurePosixPath(os.path.relpath(folder, root))
            skipped = (*GENERATED, *GENERATED_FOLDERS) if here == PurePosixPath() else GENERATED
            folders[:] = sorted(x for x in folders if not _matches(x, skipped))
            self.paths += [str(here / x) for x in sorted(files) if not _matches(x, GENERATED)]

    def text(self, path: str) -> str:
        return (self.root / path).read_text(errors="replace")

    @cached_property
    def documents(self) -> list[str]:
        return [x for x in self.paths if x.endswith(".md")]

    @cached_property
    def scripts(self) -> list[str]:
        return [x for x in self.paths if x.startswith("scripts/")]

    @cached_property
    def code(self) -> str:
        """All that runs, as one text: where a variable or option that a document names must be."""
        folders = ("cache/", "image/", "launcher/", "scripts/", "tests/", "CMakeLists.txt")
        wanted = (x for x in self.paths if x.startswith(folders) and "/corpus/" not in x)
        return "\n".join(self.text(x) for x in wanted if not x.endswith("test_layout.py"))

    @cached_property
    def names(self) -> set[str]:
        """Every end of every path (`a/b.cc`, `b.cc`, `a/b`, `a`), with suffix and without."""
        names = set()
        for path in self.paths:
            parts = PurePosixPath(path).parts
            for start in range(len(parts)):
                for end in range(start + 1, len(parts) + 1):
                    names.add("/".join(parts[start:end]))
                whole = "/".join(parts[start:])
                names.add(whole.rpartition(".")[0] or whole)
        return names

    @cached_property
    def own_options(self) -> dict[str, bool]:
        """pylaunch's options, and whether a value follows."""
        text = self.text("launcher/command_line/options.cc")
        rows = re.findall(r'^\s*\{"(--[a-z-]+)", (nullptr|")', text, re.MULTILINE)
        return {name: value != "nullptr" for name, value in rows}


def _matches(name: str, patterns) -> bool:
    return any(fnmatch.fnmatch(name, x) for x in patterns)


def _line_of(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


# ----------------------------------------------------------------------------------------- includes


def rooms(tree: Tree) -> list[list[str]]:
    """The tables of docs/architecture.md's section "Rooms": the first is what all may include."""
    _, _, section = tree.text("docs/architecture.md").partition("\n## Rooms\n")
    tables = [[]]
    for line in section.partition("\n## ")[0].splitlines():
        row = re.match(r"\| `([\w/.]+)` \|", line)
        if row:
            tables[-1].append(row[1].rstrip("/"))
        elif not line.startswith("|") and tables[-1]:
            tables.append([])
    return [x for x in tables if x]


def check_includes(tree: Tree):
    """A room includes itself, the rooms above it in its table, and those of the first table."""
    tables = rooms(tree)
    if not tables:
        yield "docs/architecture.md: has no table of rooms"
        return
    for path in tree.paths:
        if not path.endswith(SOURCES) or path.startswith("tests/"):
            continue
        room = os.path.dirname(path)
        table = next((x for x in tables if room in x), None)
        if table is None:
            yield f"{path}: lies in '{room}', which docs/architecture.md does not name"
            continue
        allowed = {*table[: table.index(room) + 1]}
        if table is not tables[0]:
            allowed |= {*tables[0]}
        for at, line in enumerate(tree.text(path).splitlines(), 1):
            include = re.match(r'\s*#\s*include\s+(?:"([^"]+)"|<Python\.h>)', line)
            if not include:
                continue
            if include[1] in (None, "Python.h"):
                if not room.startswith("launcher/engine"):
                    yield f"{path}:{at}: Python.h outside launcher/engine"
            elif os.path.dirname(include[1]) not in allowed and include[1] in tree.paths:
                yield f"{path}:{at}: includes {include[1]}, against the direction"


# -------------------------------------------------------------------------------------- named files


def comments(path: str, text: str):
    """Pairs of line and comment; and, last, what is left of the text without them."""
    if path.endswith((*SOURCES, ".map")):
        strings = r'R"\((?:.|\n)*?\)"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\''
        pattern = rf"({strings})|//[^\n]*|/\*(?:.|\n)*?\*/"
    elif path.endswith(".py") or text.startswith("#!/usr/bin/env python3"):
        return _python_comments(text)
    else:
        pattern = r"(^\S[^\n]*?[^\s#]#\S)|(?:^|(?<=\s))#(?!!)[^\n]*"
    found, rest, end = [], [], 0
    for hit in re.finditer(pattern, text, re.MULTILINE):
        if hit[1] is None:
            found.append((_line_of(text, hit.start()), hit[0]))
            rest.append(text[end : hit.start()])
            end = hit.end()
    return found, "".join([*rest, text[end:]])


def _python_comments(text: str):
    found = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            found.append((token.start[0], token.string))
    for node in ast.walk(ast.parse(text)):
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, documented) and ast.get_docstring(node, clean=False):
            found.append((node.body[0].lineno, node.body[0].value.value))
    rest = text
    for _, comment in found:
        rest = rest.replace(comment, "")
    return found, rest


# A path with a folder, or a bare name with one of our suffixes.
WORD = re.compile(
    r"(?<![\w/.~$*<>{}:@%?=\\-])"
    r"(?:[\w.-]+(?:/[\w.-]+)+/?|[\w.-]+\.(?:cc|h|py|md|cmake|txt|map|toml|sh))(?![\w/*{$<(-])"
)


def _top_folders(tree: Tree) -> set[str]:
    return {PurePosixPath(x).parts[0] for x in tree.paths if "/" in x}


def _packages(tree: Tree) -> set[str]:
    """Packages that requirement files or hooks name: their files are theirs."""
    names = {x.rpartition("/")[2].partition(".")[0] for x in tree.paths if "/hooks/" in x}
    for path in tree.paths:
        if re.search(r"requirements[\w-]*\.txt$", path):
            names |= set(re.findall(r"^[\w-]+", tree.text(path), re.MULTILINE))
    return names


def _somebody_elses(word: str, packages: set[str]) -> bool:
    first, name = word.partition("/")[0], word.rpartition("/")[2]
    if word != name and (len(first) == 1 or first in packages):
        return True  # a/b.py is an example.
    if re.search(r"NAME|MODULE", word):
        return True  # A placeholder.
    if any(first in trees.split() for trees in OTHER_TREES.values()):
        return True
    if word.endswith(OTHER_SUFFIXES) or _matches(word, OTHERS) or name in EXAMPLES.split():
        return True
    return word in STDLIB


def check_names(tree: Tree):
    """Whatever looks like a file of ours, in a comment or document, is there."""
    tops, packages = _top_folders(tree), _packages(tree)
    for path in tree.paths:
        if "/corpus/" in path or path.endswith("test_layout.py"):
            continue
        text, code = tree.text(path), ""
        if path in tree.documents:
            told = [(1, re.sub(r"(?<=\]\()[^)\s]+(?=\))", "", text))]
        elif path.endswith(COMMENTED) or path in tree.scripts:
            told, code = comments(path, text)
        else:
            continue
        for line, words in told:
            words = re.sub(r"https?://\S+", lambda x: " " * len(x[0]), words)
            for hit in WORD.finditer(words):
                word = hit[0].rstrip("/.,-")
                name = word.rpartition("/")[2]
                suffixed = re.search(r"\.(cc|h|py|md|cmake|txt|map|toml|sh)$", name)
                if not suffixed and word.partition("/")[0] not in tops:
                    continue  # and/or
                if word in tree.names or _somebody_elses(word, packages):
                    continue
                if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", code):
                    continue  # A file that this very code makes.
                at = line + words.count("\n", 0, hit.start())
                yield f"{path}:{at}: {word} names nothing"


# ------------------------------------------------------------------------------------------- links


def _anchors(text: str) -> set[str]:
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", x.lower()).strip().replace(" ", "-") for x in heads}


def check_links(tree: Tree):
    """A link in a document leads to a file, and to a heading of it; so does README, "Heading"."""
    for path in tree.paths:
        if not path.startswith(("cache/", "image/", "launcher/", "scripts/")):
            continue
        text = tree.text(path)
        for hit in re.finditer(r"docs/[\w-]+\.md", text):  # In messages, too.
            if hit[0] not in tree.paths:
                yield f"{path}:{_line_of(text, hit.start())}: {hit[0]} is not there"
        for hit in re.finditer(r"README(?:\.md)?,\s+[\"']([^\"']+)", text):
            if re.sub(r"\s+", "-", hit[1].lower()) not in _anchors(tree.text("README.md")):
                yield f"{path}:{_line_of(text, hit.start())}: README has no '{hit[1]}'"
    for path in tree.documents:
        text = tree.text(path)
        for hit in re.finditer(r"\]\(([^)\s]+)\)", text):
            target, _, anchor = hit[1].partition("#")
            if re.match(r"\w+:", target):
                continue
            at = f"{path}:{_line_of(text, hit.start())}"
            file = os.path.normpath(os.path.join(os.path.dirname(path), target)) if target else path
            if not (tree.root / file).exists():
                yield f"{at}: link to {hit[1]}, which is not there"
            elif anchor and anchor not in _anchors(tree.text(file)):
                yield f"{at}: link to {hit[1]}, a heading that is not there"


# ---------------------------------------------------------------------------------------- commands

COMMAND = re.compile(r"(scripts/|pylaunch\b|\.venv/bin/|cmake )")
TOOLS = ["python", "pip", "pylaunch", "pytest", "ruff"]


def commands(text: str):
    """Pairs of line and words: what documents tell to type, in blocks and in code spans."""
    fenced = r"^ *```[^\n]*\n(.*?)^ *```"
    spans = re.sub(fenced, lambda x: re.sub(r"[^\n]", " ", x[0]), text, flags=re.M | re.S)
    pieces = [(x.start(1), x[1]) for x in re.finditer(fenced, text, re.M | re.S)]
    pieces += [(x.start(1), x[1].replace("\n", " ")) for x in re.finditer(r"`([^`]+)`", spans)]
    for start, piece in pieces:
        joined = re.sub(r"\\\n", "  ", piece)
        offset = start
        for line in joined.splitlines(keepends=True):
            for part in re.split(r"&&|\|\|?|;|\$\(", re.sub(r"(^|\s)#.*", "", line.strip("\n"))):
                part = re.sub(r"^\s*(\$ |RUN |sudo |exec |time |-{0,2}\w+ *: )?", "", part)
                part = re.sub(r"^(\w+=('[^']*'|\"[^\"]*\"|\S*)\s+)*", "", part)
                if COMMAND.match(part):
                    quoted = re.sub(r"'[^']*'|\"[^\"]*\"", "QUOTED", part)
                    yield _line_of(text, offset), quoted.split()
            offset += len(line)


def _wrong_word(tree: Tree, words: list[str]):
    first = words[0]
    if first == "cmake":
        return _wrong_cmake(tree, words)
    if first.startswith("scripts/"):
        if first not in tree.paths:
            return first
        text = tree.text(first)
        for helper in re.findall(r"tests/\w+", text):
            main = f"{helper}/__main__.py"
            text += tree.text(main) if main in tree.paths else ""
        return next((x for x in _long_options(words) if x not in text), None)
    if first == "pylaunch" or first == ".venv/bin/pylaunch":
        return _wrong_pylaunch(tree, words)
    if first.startswith(".venv/bin/"):
        if first.rpartition("/")[2] not in TOOLS:
            return first
        files = (x for x in words[1:] if x.startswith(("tests/", "scripts/", "examples/")))
        return next((x for x in files if not (tree.root / x.partition("::")[0]).exists()), None)
    return None


def _long_options(words: list[str]):
    return (x.partition("=")[0] for x in words[1:] if re.match(r"--[a-z]", x))


def _wrong_cmake(tree: Tree, words: list[str]):
    for word in words:
        define = re.match(r"-D(\w+)", word)
        known = define is None or define[1].startswith(("CMAKE_", "BUILD_"))
        if not known and define[1] not in tree.code:
            return word
    return None


def _wrong_pylaunch(tree: Tree, words: list[str]):
    rest = iter(words[1:])
    for word in rest:
        name, equals, _ = word.partition("=")
        if not word.startswith("--"):
            if not word.startswith("-") or word[:2] in ("-c", "-m"):
                return None  # The program: whatever follows is its own.
            if word in ("-W", "-X"):
                next(rest, None)
        elif name in tree.own_options:
            if tree.own_options[name] and not equals:
                next(rest, None)
        elif f'"{name}"' not in tree.text("launcher/command_line/options.cc"):
            return word
    return None


def check_commands(tree: Tree):
    """Scripts, options, variables and tests that documents tell to use are there."""
    for path in tree.documents:
        text = tree.text(path)
        for at, words in commands(text):
            wrong = _wrong_word(tree, words)
            if wrong:
                yield f"{path}:{at}: '{' '.join(words)}': there is no {wrong}"
        for hit in re.finditer(r"\bPYLAUNCH_[A-Z_]+\b", text):
            if not re.search(rf"\b{hit[0]}\b", tree.code):
                yield f"{path}:{_line_of(text, hit.start())}: {hit[0]} is read by nobody"


def check_documented(tree: Tree):
    """Every script and every option of the program has its place in a document."""
    said = "\n".join(tree.text(x) for x in tree.documents)
    for script in tree.scripts:
        if not re.search(rf"(?<![\w/]){re.escape(script)}(?![\w.-])", said):
            yield f"{script}: no document names it"
    for option in tree.own_options:
        if not re.search(rf"(?<![\w-]){option}(?![\w-])", said):
            yield f"launcher/command_line/options.cc: no document names {option}"


def check_width(tree: Tree):
    """Lines of documents have at most WIDTH columns, rows of tables and single words aside; README
    has at most README_LINES of them."""
    if len(tree.text("README.md").splitlines()) > README_LINES:
        yield f"README.md: more than {README_LINES} lines"
    for path in tree.documents:
        for at, line in enumerate(tree.text(path).splitlines(), 1):
            if len(line) > WIDTH and not line.startswith("|") and len(line.split()) > 1:
                yield f"{path}:{at}: {len(line)} columns"


# ------------------------------------------------------------------------------------------- tests

RULES = [
    check_includes,
    check_names,
    check_links,
    check_commands,
    check_documented,
    check_width,
]


@pytest.fixture(scope="module")
def house() -> Tree:
    return Tree(ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda x: x.__name__)
def test_this_tree(house, rule):
    assert list(rule(house)) == []


OPTIONS = """constexpr OwnOption kOwnOptions[] = {
    {"--preload", "ARG", "PYLAUNCH_PRELOAD",
     "import this first"},
    {"--explain", nullptr, "PYLAUNCH_EXPLAIN", "say"},
};
"""
ROOMS = """# Architecture

## Rooms

| room | what |
|---|---|
| `cache` | archive |
| `launcher/contract` | both |

The front end:

| room | what |
|---|---|
| `launcher/command_line` | options |
| `launcher` | main |

The engine:

| room | what |
|---|---|
| `launcher/engine/base` | tools |
| `launcher/engine/exit` | the way out |

## Glossary
"""
GOOD = {
    "docs/architecture.md": ROOMS,
    "README.md": "`scripts/test --quick`, and `pylaunch --preload x.txt --explain train.py --no`.\n"
    "`x.txt` is made by `launcher/engine/exit/way.cc`, in [rooms](docs/architecture.md#rooms).\n",
    "scripts/test": "#!/bin/bash\n# See README.md.\n[[ $1 == --quick ]]\necho x >x.txt\n",
    "examples/x.txt": "# An example\n",
    "launcher/command_line/options.cc": OPTIONS,
    "launcher/engine/base/tool.h": "// What exit/way.cc uses, and/or Modules/main.c.\n",
    "launcher/engine/exit/way.cc": '#include <Python.h>\n#include "launcher/engine/base/tool.h"\n',
    "launcher/contract/plan.h": '#include "cache/format.h"\n',
    "cache/format.h": "",
}


def complaints(folder, changed):
    for path, text in {**GOOD, **changed}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return [x for rule in RULES for x in rule(Tree(folder))]


def test_a_good_tree_has_no_complaints(tmp_path):
    assert complaints(tmp_path, {}) == []


@pytest.mark.parametrize(
    "path, text, complaint",
    [
        # Includes.
        (
            "launcher/engine/base/tool.h",
            '#include "launcher/engine/exit/way.cc"\n',
            "launcher/engine/base/tool.h:1: includes launcher/engine/exit/way.cc, against ",
        ),
        ("cache/a.h", '#include "launcher/contract/plan.h"\n', "cache/a.h:1: includes "),
        ("launcher/a.cc", '#include "launcher/engine/base/tool.h"\n', "launcher/a.cc:1: includes "),
        (
            "launcher/engine/exit/a.cc",
            '#include "launcher/command_line/options.cc"\n',
            "launcher/engine/exit/a.cc:1: includes ",
        ),
        ("launcher/a.cc", "#include <Python.h>\n", "launcher/a.cc:1: Python.h outside "),
        ("cache/a.cc", '#include "Python.h"\n', "cache/a.cc:1: Python.h outside "),
        ("attic/a.cc", "", "attic/a.cc: lies in 'attic', which docs/architecture.md does not name"),
        ("docs/architecture.md", "# Nothing\n", "docs/architecture.md: has no table of rooms"),
        # Names of files.
        ("cache/a.cc", "int a;\n// See lost.cc.\n", "cache/a.cc:2: lost.cc names nothing"),
        ("cache/a.cc", "/* A\n   launcher/engine/lost */\n", "cache/a.cc:2: launcher/engine/lost "),
        ("cache/a.cc", 'f("//"); // exit/lost.h\n', "cache/a.cc:1: exit/lost.h names nothing"),
        ("tests/a.py", '"""Says:\nlost.md"""\n', "tests/a.py:2: lost.md names nothing"),
        ("tests/a.py", "a = 1  # as lost.txt\n", "tests/a.py:1: lost.txt names nothing"),
        ("cache/CMakeLists.txt", "# lost.cmake\n", "cache/CMakeLists.txt:1: lost.cmake "),
        ("scripts/test", "#!/bin/bash\n# lost.sh --quick\n", "scripts/test:2: lost.sh names "),
        ("cache/a.txt", "# reason: cache/lost\n", "cache/a.txt:1: cache/lost names nothing"),
        ("docs/a.md", "Text\nand `way_out.cc`.\n", "docs/a.md:2: way_out.cc names nothing"),
        ("docs/a.md", "`launcher/engine/way`\n", "docs/a.md:1: launcher/engine/way names nothing"),
        # Links.
        ("docs/a.md", "[a](lost.md)\n", "docs/a.md:1: link to lost.md, which is not there"),
        ("cache/a.cc", 'f("docs/lost.md tells");\n', "cache/a.cc:1: docs/lost.md is not there"),
        ("cache/a.h", '// README, "How fast"\n', "cache/a.h:1: README has no 'How fast'"),
        (
            "docs/a.md",
            "[a](architecture.md#rums)\n",
            "docs/a.md:1: link to architecture.md#rums, a ",
        ),
        # Commands.
        ("docs/a.md", "`scripts/lost`\n", "docs/a.md:1: 'scripts/lost': there is no scripts/lost"),
        ("docs/a.md", "```\nscripts/test --lost\n```\n", "docs/a.md:2: 'scripts/test --lost': "),
        (
            "docs/a.md",
            "`A=1 pylaunch --lost x`\n",
            "docs/a.md:1: 'pylaunch --lost x': there is no ",
        ),
        (
            "docs/a.md",
            "```\n$ pylaunch --preload a --explian x\n```\n",
            "docs/a.md:2: 'pylaunch --preload a --explian x': there is no --explian",
        ),
        ("docs/a.md", "`.venv/bin/python -m pytest tests/lost.py`\n", "docs/a.md:1: '.venv/bin/"),
        ("docs/a.md", "`.venv/bin/lost`\n", "docs/a.md:1: '.venv/bin/lost': "),
        ("docs/a.md", "`cmake -B build -DPYLAUNCH_LOST=1`\n", "docs/a.md:1: 'cmake -B build "),
        ("docs/a.md", "Set PYLAUNCH_LOST.\n", "docs/a.md:1: PYLAUNCH_LOST is read by nobody"),
        # What no document names.
        ("scripts/secret", "#!/bin/bash\n", "scripts/secret: no document names it"),
        (
            "launcher/command_line/options.cc",
            OPTIONS.replace("};", '    {"--secret", nullptr, nullptr, ""},\n};'),
            "launcher/command_line/options.cc: no document names --secret",
        ),
        # Width.
        ("docs/a.md", "a " * 51 + "\n", "docs/a.md:1: 102 columns"),
        ("README.md", "a\n" * 151, "README.md: more than 150 lines"),
    ],
)
def test_each_rule_fails(tmp_path, path, text, complaint):
    assert [x for x in complaints(tmp_path, {path: text}) if x.startswith(complaint)]
