"""Extensions that are compiled when they are first imported need a compiler then."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess

from . import chain
from .distributions import Inventory
from .model import OK, WARNING, Finding, Surroundings

FAMILY = "compilers"
CXX = ("c++", "g++", "clang++")
INSTALL = {
    "C++ compiler": "install one (Debian: apt-get install g++) or set CXX",
    "C compiler": "install one (Debian: apt-get install gcc) or set CC",
    "ninja": "install it (pip install ninja)",
    "nvcc": "install the CUDA toolkit and set CUDA_HOME",
}
TOOLS = {
    **dict.fromkeys(("c++", "g++", "clang++"), "C++ compiler"),
    **dict.fromkeys(("cc", "gcc", "clang"), "C compiler"),
    "ninja": "ninja",
    "nvcc": "nvcc",
}
TEXTS = (
    (re.compile(r"Ninja is required to load C\+\+ extensions"), "ninja"),
    (re.compile(r"No working C\+\+ compiler found|InvalidCxxCompiler"), "C++ compiler"),
    (re.compile(r"Failed to find C compiler"), "C compiler"),
    (re.compile(r"CUDA_HOME environment variable is not set"), "nvcc"),
)
NOT_FOUND = re.compile(
    r"(?:^|[\s/:'\"])(?:[\w.]+-linux-\w+-)?(c\+\+|g\+\+|clang\+\+|gcc|clang|cc|nvcc|ninja)[\w.-]*'?"
    r"(?:: \d+)?: (?:command )?(?:not found|No such file)"
    r"|command '(?:\S*/)?(\w[\w+]*)(?:-\d+)?' failed: No such file",
    re.MULTILINE,
)


def _tool(command: str) -> str:
    """What kind of tool a command is, or an empty string."""
    base = os.path.basename(command)
    for name, variable in (("C++ compiler", "CXX"), ("C compiler", "CC"), ("nvcc", "CUDACXX")):
        value = os.environ.get(variable, "")
        if value and command in (value, shlex.split(value)[0]):
            return name
    plain = re.sub(r"^[\w.]+-linux-\w+-|-[\d.]+$", "", base)
    return TOOLS.get(plain, "")


def _asked_for(one: BaseException) -> str:
    if isinstance(one, FileNotFoundError) and isinstance(one.filename, (str, bytes)):
        return _tool(os.fsdecode(one.filename))
    if isinstance(one, subprocess.CalledProcessError) and isinstance(one.cmd, (list, tuple)):
        words = [str(word) for word in one.cmd]
        if words[:1] == ["which"] and len(words) > 1:
            return _tool(words[1])
        return _tool(words[0]) if words and shutil.which(words[0]) is None else ""
    text = chain.text(one)
    for pattern, name in TEXTS:
        if pattern.search(text):
            return name
    found = NOT_FOUND.search(text)
    return _tool(found.group(1) or found.group(2)) if found else ""


def _there(name: str, path: str) -> str:
    """Where the tool is, or an empty string."""
    variable = {"C++ compiler": "CXX", "C compiler": "CC"}.get(name)
    chosen = os.environ.get(variable, "") if variable else ""
    candidates = (
        shlex.split(chosen)[:1] if chosen else [c for c, kind in TOOLS.items() if kind == name]
    )
    found = [w for c in candidates if (w := shutil.which(c, path=path))]
    if not found and name == "nvcc":
        for home in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")):
            if home and os.access(f"{home}/bin/nvcc", os.X_OK):
                return f"{home}/bin/nvcc"
    return found[0] if found else ""


def explain(error: BaseException) -> tuple[str, str] | None:
    path = os.environ.get("PATH", "")
    for one in chain.exceptions(error):
        name = _asked_for(one)
        if not name or _there(name, path):
            continue
        places = [f for f in chain.frames(one) if f.function == "<module>"]
        where = f" ({places[-1].file}:{places[-1].line})" if places else ""
        also = [n for n in ("C++ compiler", "ninja") if n != name and not _there(n, path)]
        more = f"; nor is there a {' or '.join(also)}" if also else ""
        chosen = {"C++ compiler": "CXX", "C compiler": "CC"}.get(name, "")
        value = os.environ.get(chosen, "") if chosen else ""
        lack = f"{chosen} is {value}, which is no command" if value else f"no {name} is on PATH"
        hint = "; ".join(f"{n}: {INSTALL[n]}" for n in (name, *also))
        return f"an extension is compiled while it is imported{where}, but {lack}{more}", hint
    return None


def check(s: Surroundings, inventory: Inventory) -> list[Finding]:
    """Only where something is installed that compiles at run time."""
    if "torch" not in inventory.by_key:
        return []
    path = s.environ.get("PATH", "")
    what = "torch can compile extensions and torch.compile's code"
    lacks = [n for n in ("C++ compiler", "ninja") if not _there(n, path)]
    if "C++ compiler" not in lacks:
        return [Finding(FAMILY, OK, what, details={"missing": lacks})]
    cause = f"no {' and no '.join(lacks)} on PATH; nothing else of torch needs them"
    hint = "; ".join(f"{n}: {INSTALL[n]}" for n in lacks)
    return [Finding(FAMILY, WARNING, what, cause, hint)]
