"""What Tab completes in each shell, asked of the shell itself."""

import re
import shutil
import subprocess

import pytest
from conftest import tty_session

SHELLS = ["bash", "zsh", "fish"]
# Of bash's own completion: the words typed, the last one unfinished; what it offers.
BASH = r"""
source <("$PYLAUNCH" --completion bash)
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_pylaunch
printf '%s\n' "${COMPREPLY[@]}"
"""
FISH = r"""
$PYLAUNCH --completion fish | source
complete -C "$argv"
"""


@pytest.fixture(params=["bash", "fish"])
def offered(request, ours, tmp_path):
    """offered("--cache-m"): the words that the shell offers."""
    shell = request.param
    (tmp_path / "warm.py").touch()

    def offer(*words: str) -> set[str]:
        env = {**ours.env(), "PYLAUNCH": str(ours.lab.pylaunch)}
        command = ["bash", "--norc", "-c", BASH, "bash", "pylaunch", *words]
        if shell == "fish":
            command = ["fish", "--no-config", "-c", FISH, "pylaunch " + " ".join(words)]
        out = subprocess.check_output(command, env=env, cwd=tmp_path, text=True)
        return {line.partition("\t")[0] for line in out.splitlines() if line}

    return offer


def options(ours) -> set[str]:
    page = (ours.lab.pylaunch.parent / "share/man/man1/pylaunch.1").read_text().replace("\\-", "-")
    return set(re.findall(r"^\.TP\n\\fB(--[a-z-]+)\\fR", page, re.MULTILINE))


def test_every_option_is_offered_and_has_its_place_in_the_manual(ours, offered):
    known = options(ours)
    assert {"--preload", "--verify", "--stdin-to", "--completion", "--version"} <= known
    assert known <= offered("--")


def test_values_are_offered_where_one_is_to_stand(offered):
    assert offered("--cache-mode", "re") == {"readonly", "refresh"}
    assert offered("-B", "--explain", "--exit", "") == {"fast", "full"}
    assert offered("--completion", "") == {"bash", "zsh", "fish"}


def test_python_options_and_their_values_do_not_end_ours(offered):
    assert offered("-u", "-Ximporttime", "-W", "error", "--cache-mo") == {"--cache-mode"}


@pytest.mark.parametrize(
    "program", [["train.py"], ["-c", "pass"], ["-m", "this"], ["-Bm", "x"], ["-"]]
)
def test_the_programs_words_are_the_programs(offered, program):
    assert not {x for x in offered(*program, "--cach") if x.startswith("--")}


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_takes_its_script_without_a_word(ours, shell, tmp_path):
    script = ours("--completion", shell)
    assert (script.code, script.err) == (0, "")
    file = tmp_path / "completion"
    file.write_text(script.out)
    flags = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    begin = "autoload -Uz compinit && compinit -D -u; " if shell == "zsh" else ""
    done = subprocess.run(
        [shell, *flags, "-c", f"{begin}source {file} && echo done"],
        env=ours.env(),
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_zsh_completes_a_name_and_its_value(ours, tmp_path):
    script = tmp_path / "functions/_pylaunch"
    script.parent.mkdir()
    script.write_text(ours("--completion", "zsh").out)
    begin = f"fpath=({script.parent} $fpath); autoload -Uz compinit && compinit -D -u"
    begin += "; pylaunch() echo told $@; echo 'a 'b\n"
    typed = [("ready ", begin), ("a b", "pylaunch --cache-mo\tref\t x.py\n")]
    typed += [("told --cache-mode=refresh x.py", "exit\n")]
    zsh = shutil.which("zsh")
    code, shown = tty_session(
        [zsh, "-f", "-i"], ours.env({"TERM": "xterm", "PROMPT": "ready "}), tmp_path, typed
    )
    assert code == 0, shown


def test_another_shell_is_refused(ours):
    refused = ours("--completion", "tcsh")
    assert refused.code == 2
    assert "tcsh" in refused.err
