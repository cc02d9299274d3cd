# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""Processes that run nothing of the user's inherit PYLAUNCH_PRELOAD, and load nothing in vain (launcher/command_line/helpers.txt)."""

import json
import os
import subprocess
import sys
import time

import pytest
from conftest import ROOT, clean_environment, finish, start
from imaged import PYTHON, RACY, has, restored

LIST = (ROOT / "launcher/command_line/helpers.txt").read_text().splitlines()
LISTED = [line.split() for line in LIST if line and not line.startswith(("#", "-c "))]
COMMANDS = [line[3:].replace(r"\n", "\n") for line in LIST if line.startswith("-c ")]
# But the standard library's own.
FAKES = [line for line in LISTED if line[0].partition(".")[0] not in sys.stdlib_module_names]
# Says whether `warm` was preloaded, by standard output.
SAY = "import sys\ndef main(*_):\n    print('warm' in sys.modules)\n"
SCRIPT = """#!{python}
# -*- coding: utf-8 -*-
import re
import sys
from {module} import main
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])
    sys.exit(main())
"""


@pytest.fixture
def lib(tree):
    """`warm`, which is to be preloaded, and programs that have the names of all helpers."""
    tree.write({"warm.py": "", "mine.py": SAY + "x = main()\n"})
    for module, *_ in FAKES:
        *packages, name = module.split(".")
        for i in range(len(packages)):
            tree.write({"/".join([*packages[: i + 1], "__init__.py"]): ""})
        call = "if __name__ == '__main__':\n    main()\n"
        tree.write({f"{'/'.join(packages)}/{name}.py".lstrip("/"): SAY + call})
    return tree


@pytest.fixture
def env(lib):
    return {"PYTHONPATH": str(lib), "PYLAUNCH_PRELOAD": "import warm"}


def ways(lib, module):
    """Command lines that run a module."""
    script = lib.write({f"bin/{module}": SCRIPT.format(python=PYTHON, module=module)})
    yield ["-m", module.removesuffix(".__main__")]
    yield ["-sm" + module.removesuffix(".__main__")]
    yield [lib / (module.replace(".", "/") + ".py")]
    yield ["--", lib / (module.replace(".", "/") + ".py")]
    yield ["-c", f"from {module} import main;main(3)"]
    yield ["-s", "-Bc", f"from {module} import main; main(5, False)"]
    yield [script / f"bin/{module}"]


@pytest.mark.parametrize("line", FAKES, ids=lambda line: "-".join(line))
def test_helper_does_not_preload(ours, lib, env, line):
    module, *conditions = line
    first = [x.removeprefix("first=") for x in conditions if x.startswith("first=")]
    without = [x.removeprefix("without=") for x in conditions if x.startswith("without=")]
    for command in ways(lib, module):
        result = ours.again(*command, *first, "--more", env=env)
        assert (result.code, result.err) == (0, "") and result.out == "False\n", command
    command = ["-m", module.removesuffix(".__main__")]
    if first:
        assert ours.again(*command, "other", *first, env=env).out == "True\n"
    for word in without:
        assert ours.again(*command, *first, "x", word, env=env).out == "True\n"


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "multiprocessing.resource_tracker"],
        ["-m", "compileall", "-q", "--help"],
        ["-m", "ensurepip", "--version"],
        ["-m", "venv", "--help"],
    ],
    ids=" ".join,
)
def test_standard_librarys_helper_does_not_preload(ours, lib, env, command):
    """Nor does it stop where what the variable names does not load: pip and venv are what mends that."""
    lib.write({"warm.py": "raise ValueError('broken')\n"})
    result = ours.again(*command, env=env)
    assert (result.code, result.err) == (0, "")
    assert ours.again("-m", "mine", env=env).code == 1


@pytest.mark.parametrize(
    "command, text",
    [
        (["-m", "mine"], ""),
        (["-c", "import sys; print('warm' in sys.modules)"], ""),
        (["-c", "from torch.distributed.run import main; main(); main()"], ""),
        (["-c", "from torch.distributed.run import main\nmain()"], ""),
        (["-c", "from torch.distributed.run import main; import mine; mine.main()"], ""),
        (["-c", "from torch.distributed.runner import main; main()"], ""),
        (["{lib}/mine.py", "torch.distributed.run"], ""),
        (["{lib}/own"], "from torch.distributed.run import main\nimport mine\nmain()\n"),
        (["{lib}/own"], "from torch.distributed.run import main\nfrom mine import x\nmain()\n"),
        (["{lib}/own"], "from torch.distributed.run import main\n" + "#" * 1024 + "\nmain()\n"),
        (["{lib}/own"], "import sys\nprint('warm' in sys.modules)\n"),
        (["{lib}/bin/torchrun"], "import sys\nprint('warm' in sys.modules)\n"),
        (["-"], "from torch.distributed.run import main\nmain()\n"),
    ],
)
def test_any_other_program_preloads(ours, lib, env, command, text):
    lib.write({"torch/distributed/runner.py": SAY, "own": text, "bin/torchrun": text})
    command = [word.format(lib=lib) for word in command]
    result = ours.again(*command, env=env, input=text)
    assert set(result.out.splitlines()) == {"True"}, result


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_known_by_its_text(ours, lib, env, command):
    """That it does not preload shows where what is to be preloaded does not load."""
    lib.write({"warm.py": "print('preloaded')\n", "lib.py": ""})
    for text, preloads in (
        (command.replace("*", "/no/library.so"), False),
        (command.replace("*", '/no"); print("'), True),
        (command.replace("*", "x") + "pass\n", True),
        ("pass\n" + command.replace("*", "x"), True),
        (command[:-4], True),
    ):
        result = ours.again("-c", text, env=env)
        assert result.out.startswith("preloaded\n") == preloads, text


def test_flag_preloads_into_whatever_it_stands_before(ours, lib, env):
    for flags in (["--preload=import warm"], ["--preload", "import csv"]):
        result = ours.again("-m", "torch.distributed.run", env=env, flags=flags)
        assert result.out == "True\n"
    assert ours.again("-m", "torch.distributed.run", env=env).out == "False\n"


def test_variables_of_the_preload_file_reach_a_helpers_children(ours, lib, env):
    lib.write(
        {
            "p.txt": "A?=1\nimport warm\n",
            "submitit/local/_local.py": "import os, sys\nprint(os.environ['A'], 'warm' in sys.modules)\n",
        }
    )
    env = {**env, "PYLAUNCH_PRELOAD": f"{lib}/p.txt"}
    assert ours.again("-m", "submitit.local._local", env=env).out == "1 False\n"


def test_explain_says_that_a_helper_preloads_nothing_and_why(ours, lib, env):
    env["PYLAUNCH_EXPLAIN"] = "1"
    said = "explain: nothing is preloaded: submitit.local._local runs no code of the user's\n"
    assert said in ours.again("-m", "submitit.local._local", env=env).err
    assert "nothing is preloaded" not in ours.again("-m", "mine", env=env).err


def test_pipe_is_not_read_to_find_out_what_it_runs(ours, lib, env):
    """As `pylaunch <(echo ...)`: what is read from it once, Python does not get."""
    ends = os.pipe()
    os.write(ends[1], b"import sys; print('warm' in sys.modules)\n")
    os.close(ends[1])
    result = ours.again(f"/dev/fd/{ends[0]}", env=env, pass_fds=[ends[0]])
    os.close(ends[0])
    assert result.out == "True\n"


def test_image_is_made_for_a_helper_that_imports_much_and_for_no_other(image, lib, env):
    # Two programs in different folders, lest they share an image. A new __pycache__ would make theirs too young for one.
    env = {**env, "PYTHONDONTWRITEBYTECODE": "1"}
    time.sleep(RACY)
    for module, wanted in (("submitit.local._local", False), ("torch.distributed.run", True)):
        program = lib / (module.replace(".", "/") + ".py")
        first, second = image(program, env=env), image(program, env=env)
        assert (first.out, second.out) == (f"{wanted}\n", f"{wanted}\n")
        assert restored(second) == wanted
        assert len(image.images()) == wanted


def test_helper_does_not_preload_where_no_image_can_be_made(image, lib, env):
    env = {**env, "PYLAUNCH_CACHE_MODE": "readonly"}
    assert image("-m", "torch.distributed.run", env=env).out == "False\n"
    assert image("-m", "mine", env=env).out == "True\n"


# What preloads, each a line of JSON.
TELLING = "import json, os, sys\nwith open(os.environ['PL_TOLD'], 'a') as f:\n    f.write(json.dumps(sys.orig_argv) + '\\n')\n"
WORKERS = """
import multiprocessing, multiprocessing.shared_memory, sys
def work(ends): ends.send('tell' in sys.modules)
if __name__ == '__main__':
    memory = multiprocessing.shared_memory.SharedMemory(create=True, size=8)
    for method in ('spawn', 'forkserver'):
        context = multiprocessing.get_context(method)
        ours, childs = context.Pipe()
        for _ in range(2):
            child = context.Process(target=work, args=(childs,))
            child.start()
            print(method, ours.recv())
            child.join()
    memory.close()
    memory.unlink()
"""


def run_installed(ours, installed, lib, *args, packages=""):
    told = lib / "told"
    env = ours.env(
        {
            "PYTHONPATH": f"{lib}:{packages}",
            "PYLAUNCH_CACHE": str(ours.warm_cache),
            "PYLAUNCH_PRELOAD": "import tell",
            "PL_TOLD": str(told),
        }
    )
    told.unlink(missing_ok=True)
    code, out, err = finish(start([installed / "bin/pylaunch", *args], env, lib.root))
    assert code == 0, err
    return out.decode().splitlines(), [json.loads(x) for x in told.read_text().splitlines()]


def test_of_multiprocessings_processes_all_preload_but_the_tracker(ours, installed, lib):
    """A fork server does it once for all of its children."""
    lib.write({"tell.py": TELLING, "workers.py": WORKERS})
    out, told = run_installed(ours, installed, lib, lib / "workers.py")
    assert out == ["spawn True"] * 2 + ["forkserver True"] * 2
    kinds = [
        next(
            (x for x in ("spawn_main", "forkserver", "tracker") if x in " ".join(words)), "program"
        )
        for words in told
    ]
    assert kinds == ["program", "spawn_main", "spawn_main", "forkserver"]


PARALLEL = """
import joblib
if __name__ == '__main__':
    print(joblib.Parallel(2)(joblib.delayed(abs)(-i) for i in range(4)))
"""
RANK = "import os, sys\nprint(f\"{os.environ['RANK']} {'tell' in sys.modules}\\n\", end='')\n"


@pytest.fixture(scope="module")
def packages() -> str:
    """The folder of the packages that are installed."""
    program = "import sysconfig; print(sysconfig.get_path('purelib'))"
    text = subprocess.check_output([PYTHON, "-c", program], env=clean_environment(ROOT))
    return text.decode().strip()


@pytest.mark.slow  # 2.4 s each.
@pytest.mark.parametrize("launcher", [["-m", "torch.distributed.run"], ["bin/torchrun"]])
def test_real_torchrun_preloads_in_its_ranks_only(ours, installed, tree, packages, launcher):
    if not has("torch"):
        pytest.skip("needs torch")
    script = SCRIPT.format(python=PYTHON, module="torch.distributed.run")
    tree.write({"tell.py": TELLING, "rank.py": RANK, "bin/torchrun": script})
    args = [*launcher, "--nproc-per-node=2", "--standalone", tree / "rank.py"]
    out, told = run_installed(ours, installed, tree, *args, packages=packages)
    assert sorted(out) == ["0 True", "1 True"]
    assert [words[-1] for words in told] == [str(tree / "rank.py")] * 2


def test_real_joblibs_workers_preload_and_its_trackers_do_not(ours, installed, tree, packages):
    if not has("joblib"):
        pytest.skip("needs joblib")
    tree.write({"tell.py": TELLING, "parallel.py": PARALLEL})
    out, told = run_installed(ours, installed, tree, tree / "parallel.py", packages=packages)
    assert out == ["[0, 1, 2, 3]"]
    assert [any("popen_loky_posix" in x for x in words) for words in told] == [False, True, True]
